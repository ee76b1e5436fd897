/* A clock that runs HURRY times as fast, which replaces libc's by LD_PRELOAD: for programs that read the time and wait
 * through libc, as Rust's std does. The timeouts of sockets are unchanged. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static long (*libcs_syscall)(long, ...);
static int (*libcs_gettime)(clockid_t, struct timespec *);
static long long hurry, began_wall, began;

static long long ns_of(const struct timespec *time)
{
    return time->tv_sec * SECOND + time->tv_nsec;
}

static struct timespec of_ns(long long ns)
{
    return (struct timespec){ ns / SECOND, ns % SECOND };
}

static long long real_now(clockid_t clock)
{
    struct timespec now;
    libcs_gettime(clock, &now);
    return ns_of(&now);
}

/* Before other code runs, in particular threads. */
__attribute__((constructor)) static void begin(void)
{
    if (hurry)
        return;
    libcs_syscall = dlsym(RTLD_NEXT, "syscall");
    libcs_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    began_wall = real_now(CLOCK_REALTIME);
    began = real_now(CLOCK_MONOTONIC);
    hurry = getenv("HURRY") ? atoll(getenv("HURRY")) : 1;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    begin();
    if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
        return libcs_gettime(clock, time);
    long long since = clock == CLOCK_REALTIME ? began_wall : began;
    *time = of_ns(since + (real_now(clock) - since) * hurry);
    return 0;
}

/* The real time of a time on the fast clock, rounded up. */
static struct timespec real_moment(long long since, const struct timespec *fast)
{
    return of_ns(since + (ns_of(fast) - since + hurry - 1) / hurry);
}

long syscall(long number, ...)
{
    begin();
    long of[6];
    va_list given;
    va_start(given, number);
    for (int i = 0; i < 6; i++) /* Missing ones are ignored by the kernel. */
        of[i] = va_arg(given, long);
    va_end(given);
    struct timespec until;
    if (number == SYS_futex && of[3] && (of[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET) {
        until = real_moment(of[1] & FUTEX_CLOCK_REALTIME ? began_wall : began, (void *)of[3]);
        of[3] = (long)&until;
    }
    return libcs_syscall(number, of[0], of[1], of[2], of[3], of[4], of[5]);
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left)
{
    begin();
    struct timespec real = flags & TIMER_ABSTIME ? real_moment(began, wanted) : of_ns(ns_of(wanted) / hurry);
    return libcs_syscall(SYS_clock_nanosleep, clock, flags, &real, left) ? errno : 0;
}
