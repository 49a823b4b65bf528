// Replaying a recording (tools/recording): its requests go to a server in the recorded order. A request is
// sent as soon as all replies have come that stood before it in the recording: with the concurrency that the
// recording has, and without its pauses. Node ids, file handles and directory positions are this server's.
// Used by the main thread, which also waits for the replies.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "recording/record.h"
#include "virtiofs-bench/subject.h"

namespace fusewire::bench {

struct Recording {
  std::vector<recording::Record> records;
  unsigned depth = 0;             // the most requests that waited for a reply at a time
  std::size_t request_bytes = 0;  // the longest request,
  std::size_t reply_bytes = 0;    // and the largest room for a reply's body
};
// Errors: what recording::Reader says; a file that does not begin with INIT, or whose requests are larger, or
// more at a time, than a virtio-fs guest's can be.
Expected<Recording> load_recording(const std::string& path);

// What a server has to be asked for so that the recording can be replayed.
driver::ServerOptions wanted_for(const Recording& recording, const Options& options);

struct ReplayResult {
  RunResult run;  // operations: requests
  // How often what became different from the recording, in words: "GETXATTR: success, not Operation not
  // supported".
  std::map<std::string, std::uint64_t> differences;
};
// Replays all of it to a server that nothing was said to yet. Fails at a reply whose form is wrong, and when
// INIT fails. Errors begin with the server's name.
Expected<ReplayResult> replay(Subject& subject, const Recording& recording, Wait wait);

}  // namespace fusewire::bench
