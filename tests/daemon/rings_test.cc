// Every shape of ring and every way to cut a request: 1 MiB written, read back, and compared with the host's
// file.
#include "daemon/client.h"

namespace fusewire::tests {
namespace {

struct Shape {
  unsigned size;
  bool event_idx;
  unsigned indirect;
  bool packed = false;
};

class Rings : public DaemonTest, public ::testing::WithParamInterface<Shape> {
 protected:
  GuestOptions options() const {
    const Shape& shape = GetParam();
    GuestOptions made;
    made.request_queues = 2;
    made.queue = {.size = shape.size,
                  .event_idx = shape.event_idx,
                  .indirect_entries = shape.indirect,
                  .initial_index = 0xfffe,  // so that the indexes wrap at once
                  .arena = 8 << 20,
                  .packed = shape.packed};
    return made;
  }
};

TEST_P(Rings, EveryCut_Moves1MiBWhole) {
  boot({}, options());
  const auto created = client().create(kRootNode, "file");
  ASSERT_TRUE(created.has_value());
  const NodeId node{created->entry.nodeid};
  const std::uint64_t handle = created->open.fh;
  unsigned seed = 0;
  for (const Cut cut : virtiofs::testing::kAllCuts) {
    SCOPED_TRACE(name_of(cut));
    const std::string data = pattern(1 << 20, ++seed);
    const Answer written = guest().queue(1).send(Client::write_request(node, handle, 0, as_bytes(data)), cut);
    EXPECT_EQ(written.error, 0);
    EXPECT_EQ(written.as<fuse_write_out>().size, data.size());
    EXPECT_TRUE(read_host("file") == data);
    const Answer read = guest().queue(2).send(Client::read_request(node, handle, 0, 1 << 20), cut);
    EXPECT_EQ(read.error, 0);
    EXPECT_TRUE(read.text() == data);
  }
}

TEST_P(Rings, MoreRequestsThanTheRingHolds_AreAllAnswered) {
  boot({}, options());
  std::vector<GuestQueue::Ticket> tickets;
  tickets.reserve(1000);
  for (int i = 0; i < 1000; ++i)
    tickets.push_back(
        client().start(make_request(FUSE_GETATTR, kRootNode, fuse_getattr_in{}).room(sizeof(fuse_attr_out))));
  for (const auto ticket : tickets) EXPECT_EQ(client().wait(ticket).error, 0);
}

std::string shape_name(const ::testing::TestParamInfo<Shape>& tested) {
  const Shape& shape = tested.param;
  return (shape.packed ? "PackedSize" : "Size") + std::to_string(shape.size) +
         (shape.event_idx ? "EventIndex" : "Flags") + (shape.indirect != 0 ? "Indirect" : "Direct");
}

std::vector<Shape> all_shapes() {
  std::vector<Shape> shapes;
  const auto add = [&shapes](unsigned size, bool packed) {
    for (const bool event_idx : {false, true})
      for (const unsigned indirect : {0u, size < 1000 ? 300u : 40u})
        shapes.push_back({size, event_idx, indirect, packed});
  };
  for (const unsigned size : {4u, 8u, 64u, 128u, 1024u, 32768u}) add(size, false);
  for (const unsigned size : {3u, 128u, 1000u, 32767u}) add(size, true);
  return shapes;
}

INSTANTIATE_TEST_SUITE_P(All, Rings, ::testing::ValuesIn(all_shapes()), shape_name);

}  // namespace
}  // namespace fusewire::tests
