// OPENDIR, READDIR, READDIRPLUS and RELEASEDIR. FSYNCDIR is in data.cc.
#include <dirent.h>
#include <fcntl.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <string_view>
#include <utility>

#include "fusewire/directory_builder.h"
#include "passthrough/answer.h"
#include "passthrough/open_directory.h"
#include "passthrough/passthrough.h"

namespace fusewire::passthrough {
namespace {

bool is_dot_or_dot_dot(std::string_view name) { return name == "." || name == ".."; }

// What lies above the shared directory is not the guest's business: the root is its own parent, as a mounted
// file system's is.
void hide_parent_of_root(const OpenDirectory& directory, DirectoryEntry& entry) {
  if (directory.node == kRootNode && entry.name == "..") entry.ino = directory.identity.ino;
}

// An error after some entries comes again with the next request, so the entries are sent.
void answer(ReplyData&& reply, const DirectoryBuilder& entries, const Result<void>& read) {
  if (!read && entries.empty()) return std::move(reply).error(for_guest(read.error()));
  std::move(reply).ok(entries.bytes());
}

// Appends entries from `offset` on until one does not fit, or the directory ends. `append(entry)` says how it
// went.
enum class Appended { yes, skipped, full };
template <class Append>
Result<void> append_entries(OpenDirectory& directory, std::uint64_t offset, const DirectoryBuilder& writer,
                            const Append& append) {
  DirectoryStream& stream = directory.stream;
  if (const auto sought = stream.seek(offset); !sought) return fail(sought.error());
  for (;;) {
    const auto found = stream.peek();
    if (!found) return fail(found.error());
    if (*found == nullptr) return {};
    DirectoryEntry entry = **found;
    hide_parent_of_root(directory, entry);
    const Appended appended = append(entry);
    if (appended == Appended::full) {
      // An empty answer would mean the end of the directory.
      if (writer.empty()) return fail(EINVAL);
      return {};
    }
    stream.advance();
  }
}

// Lets the stream give its memory back when the request is over, however it ends.
class StreamUse {
 public:
  explicit StreamUse(OpenDirectory& directory) : lock_(directory.mutex), stream_(directory.stream) {}
  StreamUse(const StreamUse&) = delete;
  StreamUse& operator=(const StreamUse&) = delete;
  ~StreamUse() { stream_.rest(); }

 private:
  const std::scoped_lock<std::mutex> lock_;
  DirectoryStream& stream_;
};

}  // namespace

void PassthroughFs::opendir(Call<op::Opendir> call) {
  auto known = inode(call.header.node);
  if (!known) return std::move(call.reply).error(known.error());
  if (!(*known)->is_directory()) return std::move(call.reply).error(ENOTDIR);
  int flags = O_RDONLY | O_DIRECTORY;
  if (config().preserve_noatime) flags |= static_cast<int>(call.in.flags & O_NOATIME);
  auto opened = open_inode(*known, flags);
  if (!opened) return std::move(call.reply).error(for_guest(opened.error()));
  auto kept = keep(std::move(*opened));
  if (!kept) return std::move(call.reply).error(kept.error());
  fuse_open_out out{};
  out.fh = directories_.insert(std::make_shared<OpenDirectory>(std::move(*kept), **known)).get();
  out.open_flags = open_reply_flags(true);
  std::move(call.reply).ok(out);
}

void PassthroughFs::releasedir(Call<op::Releasedir> call) {
  if (directories_.remove(FileHandle{call.in.fh}) == nullptr) return std::move(call.reply).error(EBADF);
  std::move(call.reply).ok();
}

void PassthroughFs::readdir(Call<op::Readdir> call) {
  const auto opened = directory(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  DirectoryBuilder writer(call.reply);
  Result<void> read;
  {
    const StreamUse use(**opened);
    read = append_entries(**opened, call.in.offset, writer, [&writer](const DirectoryEntry& entry) {
      return writer.add(entry) ? Appended::yes : Appended::full;
    });
  }
  answer(std::move(call.reply), writer, read);
}

void PassthroughFs::readdirplus(Call<op::Readdirplus> call) {
  const auto opened = directory(call.in.fh);
  if (!opened) return std::move(call.reply).error(opened.error());
  const OpenDirectory& directory = **opened;
  DirectoryBuilder writer(call.reply);
  // An exception may not pass the entries that are in the reply already: their lookups are counted.
  const auto look_up = [&](const char* name) -> Result<fuse_entry_out> {
    try {
      return entry_for(directory.identity.mount, directory.fd(), name);
    } catch (const std::bad_alloc&) {
      return fail(ENOMEM);
    }
  };
  const auto append = [&](const DirectoryEntry& entry) {
    if (!writer.fits_plus(entry.name.size())) return Appended::full;
    fuse_entry_out attributes{};
    if (!is_dot_or_dot_dot(entry.name)) {
      const auto found = look_up(entry.name.data());
      // Removed since it was read. Other failures concern only who uses the entry: it is shown without its
      // inode.
      if (!found && found.error().value == ENOENT) return Appended::skipped;
      if (found) attributes = *found;
    }
    return writer.add_plus(entry, attributes) ? Appended::yes : Appended::full;
  };
  Result<void> read;
  {
    const StreamUse use(**opened);
    read = append_entries(**opened, call.in.offset, writer, append);
  }
  answer(std::move(call.reply), writer, read);
}

}  // namespace fusewire::passthrough
