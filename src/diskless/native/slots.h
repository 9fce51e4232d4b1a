// The patcher: makes slots of loaded objects hold our functions, and puts back what they held.
#pragma once

namespace diskless {

struct Hook;

// Which slots are to hold our functions.
enum class Reach {
  none,     // none: put back what was there
  streams,  // those that directory streams still open need (readdir, closedir, …)
  all,
};

// Goes over every loaded object and makes it so. Returns 0 or -errno, where not a single slot could be written.
int patch_objects(Reach reach);
// The same with Reach::all, if any object was loaded since.
void patch_new_objects();
// How many slots hold ours.
long count_patched_slots();
// Whether the code at `address` is part of the tool whose function is next in the chain of `hook`.
bool is_of_another_tool(const Hook &hook, const void *address);

// Whether it is part of the program or of the Python interpreter: what they load by a full path does not depend on
// which of their parts asked for it.
bool is_interpreter(const void *address);

}  // namespace diskless
