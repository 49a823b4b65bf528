// Threads that leave the process's signals alone, and the CPU that one runs on.
//
// A new thread inherits credentials, capabilities, umask and working directory of the one that starts it:
// start none while acting for a guest's user. It may run on the CPUs that the process's first thread may run
// on, also when the one that starts it is tied to one.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <functional>
#include <string>

#include "fusewire/result.h"

namespace fusewire::io {

// Runs `body` in a new thread with every signal blocked. The caller must join it. `name`: the system shows 15
// characters of it. `stack_size` 0: the system's choice. Errors: those of pthread_create(3); `body` is
// destroyed unused then.
Result<pthread_t> start_thread(std::move_only_function<void()> body, const std::string& name,
                               std::size_t stack_size = 0);

// The calling thread runs on CPU `cpu` alone from now on. EINVAL: it is offline, or not for this process.
Result<void> stay_on_cpu(unsigned cpu);

}  // namespace fusewire::io
