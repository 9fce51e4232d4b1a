// Invariants: what has to hold of a scratch whenever nobody changes it, seen from outside.
#pragma once

#include <string>
#include <vector>

// What is wrong with the scratch at `root`, or nothing. `open` are the descriptors of files in it that may have no name.
std::string broken_invariant(const std::string &root, const std::vector<int> &open);

// What statvfs says that its files take.
long long used_bytes(const std::string &root);
