// What virtiofsd prints about itself.
#pragma once

#include <string>

namespace fusewire::daemon {

// --help: every option of the table, grouped, at most 100 columns wide.
std::string help_text();

// --version: "virtiofsd (fusewire) X.Y.Z".
std::string version_text();

// --print-capabilities: the JSON object that vhost-user's back-end program conventions ask for (QEMU's
// docs/interop/vhost-user.json). It names only features that are there.
std::string capabilities_text();

}  // namespace fusewire::daemon
