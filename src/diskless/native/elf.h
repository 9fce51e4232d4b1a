// Slots: the places in loaded objects through which they call libc's functions, or keep their addresses.
#pragma once

namespace diskless {

// Which slots are to hold our functions.
enum class Reach {
  none,     // none: put back what was there
  streams,  // those that directory streams still open need (readdir, closedir, …)
  all,
};

// Goes over every loaded object and makes it so. Returns how many slots hold ours afterwards.
long patch_objects(Reach reach);
// The same, if any object was loaded since.
void patch_new_objects();
// How many slots hold ours.
long count_patched_slots();

}  // namespace diskless
