#include "fusewire/thread_work.h"

#include "base/check.h"

namespace fusewire {
namespace {

thread_local ThreadWork* work_of_this_thread = nullptr;

}  // namespace

ThreadWork::ThreadWork() {
  FUSEWIRE_CHECK(work_of_this_thread == nullptr);
  work_of_this_thread = this;
}

ThreadWork::~ThreadWork() { work_of_this_thread = nullptr; }

void ThreadWork::finish_all_of_this_thread() {
  if (work_of_this_thread != nullptr) work_of_this_thread->finish_all();
}

}  // namespace fusewire
