// Recorder: --record, the traffic into a file (tools/recording).
#pragma once

#include <memory>

#include "recording/writer.h"
#include "virtiofs-mount/observer.h"

namespace fusewire::carry {

class Recorder final : public Observer {
 public:
  explicit Recorder(std::unique_ptr<recording::Writer> writer) : writer_(std::move(writer)) {}

  void request(unsigned queue, const fuse_in_header&, std::span<const std::byte> request,
               const ReplyRoom& room) override {
    writer_->request(queue, request, static_cast<std::uint32_t>(room.most));
  }
  void reply(unsigned, const fuse_in_header& request, const fuse_out_header& header,
             std::span<const std::byte> body, std::chrono::nanoseconds) override {
    writer_->reply(request.opcode, header, body);
  }
  // What the server did not answer has no reply in the recording either.
  void failed(unsigned, const fuse_in_header&, int) override {}

 private:
  const std::unique_ptr<recording::Writer> writer_;
};

}  // namespace fusewire::carry
