#include "shrink.h"

#include <algorithm>

// Leaves out what can be left out, by halves and down to one by one.
Numbers shortened(Numbers numbers, const std::function<bool(const Numbers &)> &still) {
  for (std::size_t size = std::max<std::size_t>(1, numbers.size() / 2); size > 0;) {
    const std::size_t before = numbers.size();
    for (std::size_t end = numbers.size(); end > 0;) {
      const std::size_t begin = end > size ? end - size : 0;
      Numbers fewer = numbers;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(begin),
                  fewer.begin() + static_cast<std::ptrdiff_t>(std::min(end, numbers.size())));
      if (still(fewer)) numbers = fewer;
      end = begin;
    }
    if (size > 1 || numbers.size() == before) size /= 2;
  }
  return numbers;
}
