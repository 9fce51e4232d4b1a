// Shortens a series of operations to what a difference needs, by doing it again with less.
#pragma once

#include <functional>

#include "machine.h"

// `still(numbers)` says whether a shorter series still differs.
Numbers shortened(Numbers numbers, const std::function<bool(const Numbers &)> &still);
