// What each option does to the options: the setters of the rows in option_table.cc. A setter checks its value
// and says what is wrong with it. Private to this folder.
#pragma once

#include "daemon/option_table.h"

namespace fusewire::daemon {

// A switch of the file system.
template <bool passthrough::Config::* member>
SetResult set_config(Draft& draft, std::string_view value) {
  draft.options.config.*member = value == kOn;
  return {};
}

// A switch that is on once it is named.
template <bool Options::* member, bool to = true>
SetResult set_option(Draft& draft, std::string_view) {
  draft.options.*member = to;
  return {};
}

template <Action action>
SetResult set_action(Draft& draft, std::string_view) {
  draft.options.action = action;
  return {};
}

// ACLs and security labels are extended attributes. Asking for them asks for those too, also where they were
// turned off earlier; finish() in options.cc complains when they are turned off afterwards.
template <bool passthrough::Config::* member>
SetResult set_xattr_user(Draft& draft, std::string_view value) {
  draft.options.config.*member = value == kOn;
  if (value == kOn && draft.xattr == false) draft.xattr.reset();
  return {};
}

SetResult set_shared_dir(Draft& draft, std::string_view value);
SetResult set_tag(Draft& draft, std::string_view value);
SetResult set_file_handles(Draft& draft, std::string_view value);
SetResult set_socket_path(Draft& draft, std::string_view value);
SetResult set_socket_group(Draft& draft, std::string_view value);
SetResult set_fd(Draft& draft, std::string_view value);
SetResult set_num_request_queues(Draft& draft, std::string_view value);
SetResult set_poll_us(Draft& draft, std::string_view value);
SetResult set_queue_cpus(Draft& draft, std::string_view value);
SetResult set_cache(Draft& draft, std::string_view value);
SetResult set_timeout(Draft& draft, std::string_view value);
SetResult set_readdirplus(Draft& draft, std::string_view value);
SetResult set_thread_pool_size(Draft& draft, std::string_view value);
SetResult set_xattr(Draft& draft, std::string_view value);
SetResult set_log_level(Draft& draft, std::string_view value);
SetResult set_debug(Draft& draft, std::string_view value);
SetResult set_rlimit_nofile(Draft& draft, std::string_view value);

// Accepted, without an effect here: each leaves a note for the log that says so.
SetResult set_max_idle_threads(Draft& draft, std::string_view value);
SetResult set_allow_root(Draft& draft, std::string_view value);

// Options of later work. Of the first two the value "none", which is what there is, is accepted.
SetResult set_sandbox(Draft& draft, std::string_view value);
SetResult set_seccomp(Draft& draft, std::string_view value);
SetResult refuse_modcaps(Draft& draft, std::string_view value);
SetResult refuse_xattrmap(Draft& draft, std::string_view value);
SetResult refuse_id_map(Draft& draft, std::string_view value);
SetResult refuse_id_translation(Draft& draft, std::string_view value);
SetResult refuse_migration(Draft& draft, std::string_view value);

}  // namespace fusewire::daemon
