/* A TCG plugin for QEMU's user mode: how many instructions a guest has executed whenever it has
 * opened a file.
 *
 *   cc -O2 -shared -fPIC -o count_instructions.so count_instructions.c
 *   qemu-aarch64 -plugin ./count_instructions.so,open=56,out=counts.txt PROGRAM ...
 *
 * open  the number of the guest's system call openat: 56 on aarch64, 322 on 32-bit ARM
 * out   the file to write: a line for each file, with the count in decimal, a space and its path
 * last  a path: once it is opened, the emulator ends; may be left out
 *
 * Whole blocks are counted, by an addition that QEMU weaves into the code it translates: exact for
 * a guest of one thread; of what several threads add at once, some may get lost. Debian ships no
 * header of QEMU's plugin interface: what is called here is declared as version 1 defines it. */
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t plugin_id;
typedef struct block block; /* straight-line code, translated at once */

enum { ADD_U64 = 0 }; /* the only operation that is offered inline */

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id, block*));
size_t qemu_plugin_tb_n_insns(const block* code);
void qemu_plugin_register_vcpu_tb_exec_inline(block* code, int operation, void* counter,
                                              uint64_t addend);
void qemu_plugin_register_vcpu_syscall_ret_cb(plugin_id id,
                                              void (*call)(plugin_id, unsigned cpu, int64_t number,
                                                           int64_t result));

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

static uint64_t executed;
static int64_t open_number = -1;
static int out = -1;
static char* last;

static void translated(plugin_id id, block* code) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(code, ADD_U64, &executed, qemu_plugin_tb_n_insns(code));
}

static void returned(plugin_id id, unsigned cpu, int64_t number, int64_t result) {
  (void)id, (void)cpu;
  if (number != open_number || result < 0) return;
  /* A guest's descriptors are the emulator's own. */
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%" PRId64, result);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return;
  path[size] = '\0';
  dprintf(out, "%" PRIu64 " %s\n", executed, path);
  if (last != NULL && strcmp(path, last) == 0) _exit(0);
}

EXPORT int qemu_plugin_install(plugin_id id, const void* info, int argc, char** argv) {
  (void)info;
  for (int i = 0; i < argc; ++i) {
    if (strncmp(argv[i], "open=", 5) == 0) open_number = atoll(argv[i] + 5);
    if (strncmp(argv[i], "out=", 4) == 0) {
      out = open(argv[i] + 4, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    }
    if (strncmp(argv[i], "last=", 5) == 0) last = strdup(argv[i] + 5);
  }
  if (open_number < 0 || out < 0) {
    fprintf(stderr, "count_instructions: needs open=NUMBER, and out=FILE that can be written\n");
    return -1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_ret_cb(id, returned);
  return 0;
}
