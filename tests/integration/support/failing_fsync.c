// Preloaded into a sidecar: while the file named by FAILING_FSYNC exists, syncing the log of a spool fails with the
// errno that is written in that file. Each failure adds a byte to the file of that name with ".hits" behind it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int wanted_errno(int fd) {
    const char *flag = getenv("FAILING_FSYNC");
    if (!flag)
        return 0;
    char link[64], path[4096], hits[4096], text[16] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    if (!strstr(path, ".spool-wal"))
        return 0;
    int file = open(flag, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    if (read(file, text, sizeof text - 1) < 0)
        text[0] = '\0';
    close(file);
    snprintf(hits, sizeof hits, "%s.hits", flag);
    file = open(hits, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
        if (write(file, ".", 1) < 0)
            perror(hits);
        close(file);
    }
    return atoi(text);
}

static int sync_unless_failing(const char *name, int fd) {
    int wanted = wanted_errno(fd);
    if (wanted) {
        errno = wanted;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return sync_unless_failing("fsync", fd); }

int fdatasync(int fd) { return sync_unless_failing("fdatasync", fd); }
