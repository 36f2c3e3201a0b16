/* SPDX-License-Identifier: Apache-2.0
 *
 * LD_PRELOAD: the wall clock of one process, VEILNET_SKEW seconds off the true time. The monotonic clock and all sleeping
 * stay true, as they do when an administrator sets a clock.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long skew;

__attribute__((constructor)) static void read_skew(void)
{
	const char *text = getenv("VEILNET_SKEW");

	skew = text ? atoll(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
	int code = (int)syscall(SYS_clock_gettime, clock, out);

	if (!code && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		out->tv_sec += skew;
	return code;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	int code = (int)syscall(SYS_gettimeofday, out, zone);

	if (!code && out)
		out->tv_sec += skew;
	return code;
}

time_t time(time_t *out)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}
