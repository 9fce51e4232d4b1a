// How large the filesystem that the Tree seems to be is, for statvfs(3).
#pragma once

namespace diskless {

void set_space(long long total_bytes, long long free_bytes);

}  // namespace diskless
