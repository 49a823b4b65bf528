// ByteReader and ByteWriter: bounded cursors over plain memory that we own. Numbers are read and written in
// host order, as FUSE, vhost-user and little-endian virtio hosts use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace fusewire {

// The bytes of a trivially copyable object; the view dies with the object.
template <class T>
  requires std::is_trivially_copyable_v<T>
std::span<const std::byte> bytes_of(const T& object) {
  return std::as_bytes(std::span<const T, 1>(&object, 1));
}
template <class T>
  requires std::is_trivially_copyable_v<T>
std::span<std::byte> writable_bytes_of(T& object) {
  return std::as_writable_bytes(std::span<T, 1>(&object, 1));
}

inline std::string_view as_text(std::span<const std::byte> bytes) {
  // SAFETY: char may alias any object.
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  std::size_t remaining() const { return rest_.size(); }
  std::span<const std::byte> rest() const { return rest_; }

  // A copy of the next sizeof(T) bytes, or nullopt (and nothing consumed) when fewer remain.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  std::optional<T> read() {
    if (rest_.size() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }

  // A view of the next `size` bytes, or nullopt when fewer remain.
  std::optional<std::span<const std::byte>> take(std::size_t size) {
    if (rest_.size() < size) return std::nullopt;
    auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }

  // The text up to the next NUL, which is consumed too and which stands right behind the view; nullopt when
  // there is no NUL.
  std::optional<std::string_view> take_c_string() {
    if (rest_.empty()) return std::nullopt;
    const void* nul = std::memchr(rest_.data(), 0, rest_.size());
    if (nul == nullptr) return std::nullopt;
    auto size = static_cast<std::size_t>(static_cast<const std::byte*>(nul) - rest_.data());
    auto text = as_text(rest_.first(size));
    rest_ = rest_.subspan(size + 1);
    return text;
  }

 private:
  std::span<const std::byte> rest_;
};

class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> room) : room_(room) {}

  std::size_t written() const { return written_; }
  std::size_t remaining() const { return room_.size() - written_; }

  // Appends `bytes`; false (and nothing written) when they do not fit.
  bool write(std::span<const std::byte> bytes) {
    if (bytes.size() > remaining()) return false;
    if (!bytes.empty()) std::memcpy(room_.data() + written_, bytes.data(), bytes.size());
    written_ += bytes.size();
    return true;
  }
  template <class T>
    requires std::is_trivially_copyable_v<T>
  bool write_object(const T& object) {
    return write(bytes_of(object));
  }
  // Appends `size` zero bytes.
  bool pad(std::size_t size) {
    if (size > remaining()) return false;
    if (size != 0) std::memset(room_.data() + written_, 0, size);
    written_ += size;
    return true;
  }

 private:
  std::span<std::byte> room_;
  std::size_t written_ = 0;
};

}  // namespace fusewire
