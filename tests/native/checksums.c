/* Prints the CRCs of many lengths, at an odd address, behind other bytes and combined with others. */

#include <dlfcn.h>
#include <stdio.h>

typedef unsigned long long number;

int main(int count, char **words) {
  static unsigned char data[2001];
  if (count != 2) return 2;
  void *library = dlopen(words[1], RTLD_NOW);
  if (library == NULL) return 1;
  number (*crc)(int, number, const void *, number) = dlsym(library, "diskless_crc");
  number (*combine)(int, number, number, number) = dlsym(library, "diskless_crc_combine");
  for (int i = 0; i < 2001; ++i) data[i] = (unsigned char)(i * 7 + i / 256);
  for (int which = 0; which < 3; ++which) {
    for (int length = 0; length <= 2000; ++length) {
      number found = crc(which, 5, data + 1, length);
      printf("%d %d %llx %llx\n", which, length, found, combine(which, found, 77, length));
    }
  }
  return 0;
}
