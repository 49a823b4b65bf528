// FlatFs: the regular files of one folder, to be read only. Each READ is answered with a range of the file,
// which is what goes through a pipe (splice) on /dev/fuse; and a LOOKUP of one name is never answered at all.
//
// Threading: that of FileSystem. Files stay open until the end, and are few.
#pragma once

#include <expected>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "fusewire/file_system.h"
#include "fusewire/unique_fd.h"

namespace fusewire::testing {

class FlatFs final : public FileSystem {
 public:
  // `never_answered`: the name that is asked for in vain; empty: none. `direct`: the kernel caches no data.
  // The error is a text for the user.
  static std::expected<std::unique_ptr<FlatFs>, std::string> open(const std::string& folder,
                                                                  std::string never_answered, bool direct);

  Result<void> init(Negotiation& negotiation) override;
  void lookup(Call<op::Lookup> call) override;
  void getattr(Call<op::Getattr> call) override;
  void open(Call<op::Open> call) override;
  void read(Call<op::Read> call) override;

 private:
  FlatFs(UniqueFd folder, std::string never_answered, bool direct)
      : folder_(std::move(folder)), never_answered_(std::move(never_answered)), direct_(direct) {}
  // The node's descriptor, for as long as this lives; -1: there is none.
  int descriptor(NodeId node);
  // The node of a file, opened the first time.
  Result<NodeId> find(const std::string& name);

  const UniqueFd folder_;
  const std::string never_answered_;
  const bool direct_;
  std::mutex mutex_;
  std::map<std::string, std::uint64_t> nodes_;
  std::vector<UniqueFd> files_;  // of node kFirst + index
  std::vector<Call<op::Lookup>> kept_;
};

}  // namespace fusewire::testing
