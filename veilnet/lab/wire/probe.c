/* SPDX-License-Identifier: Apache-2.0
 *
 * Sender and receiver of test frames, for the emulator's figures and for netem's in a guest.
 *
 *     probe flood NAMESPACE DEVICE BYTES SECONDS
 *         as fast as it goes; prints the number of frames sent
 *     probe measure NAMESPACE DEVICE NAMESPACE DEVICE COUNT INTERVAL_NS BYTES
 *         from the first device to the second; writes three 32-bit words (number, latency in ns, arrival in us) for each
 *         frame that arrives, in that order, to standard output. Latency: from just before the send to the kernel's
 *         receive stamp; arrival: since the start. On standard error a line "start N", then "stall N N" for each time in
 *         which this process should have run and did not: unix time in ns.
 *
 * NAMESPACE is a path, or - for this one. BYTES count the Ethernet header.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "port.h"

#define PROBE_TYPE 0x88b5 /* IEEE 802 local experimental ethertype 1 */
#define LATE_NS 1000000ULL /* beyond it the schedule moves: no burst makes up for a stall of ours */
#define DRAIN_NS (NANO / 2) /* a frame that takes longer is lost */

struct probe_frame {
	uint8_t destination[6], source[6];
	uint16_t type;
	uint16_t pad;
	uint32_t number;
	uint64_t sent;
} __attribute__((packed));

static uint8_t buffers[BATCH][65536];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];
static uint8_t stamps[BATCH][CMSG_SPACE(sizeof(struct timespec))];

static int open_device(const char *namespace, const char *device)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(PROBE_TYPE) };
	int fd = socket_in(namespace), on = 1, room = 32 << 20;
	struct ifreq request;

	if (fd < 0 || device_call(fd, SIOCGIFINDEX, device, &request)) {
		perror(device);
		exit(1);
	}
	address.sll_ifindex = request.ifr_ifindex;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		perror(device);
		exit(1);
	}
	return fd;
}

static void fill(uint8_t *buffer)
{
	static const struct probe_frame HEAD = { { 2, 0, 0, 0, 0, 2 }, { 2, 0, 0, 0, 0, 1 }, 0, 0, 0, 0 };
	struct probe_frame head = HEAD;

	head.type = htons(PROBE_TYPE);
	memcpy(buffer, &head, sizeof(head));
}

static int flood(const char *namespace, const char *device, size_t bytes, double seconds)
{
	int fd = open_device(namespace, device), on = 1, none = 0;
	uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)(seconds * 1e9), sent = 0;

	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &none, sizeof(none));
	for (int n = 0; n < BATCH; n++) {
		fill(buffers[n]);
		parts[n] = (struct iovec){ buffers[n], bytes };
		messages[n].msg_hdr = (struct msghdr){ .msg_iov = &parts[n], .msg_iovlen = 1 };
	}
	while (clock_ns(CLOCK_MONOTONIC) < end) {
		int done = sendmmsg(fd, messages, BATCH, 0);

		sent += done > 0 ? (uint64_t)done : 0;
	}
	printf("%llu\n", (unsigned long long)sent);
	return 0;
}

static void send_one(int fd, uint32_t number, size_t bytes)
{
	struct probe_frame *head = (void *)buffers[0];

	head->number = number;
	head->sent = clock_ns(CLOCK_REALTIME);
	if (send(fd, buffers[0], bytes, 0) < 0)
		fprintf(stderr, "probe: frame %u: %s\n", number, strerror(errno)); /* counts as lost */
}

/* Writes what has arrived; false when there was nothing. */
static bool receive(int fd, uint64_t start)
{
	for (int n = 0; n < BATCH; n++) {
		parts[n] = (struct iovec){ buffers[n], sizeof(buffers[n]) };
		messages[n].msg_hdr = (struct msghdr){ .msg_iov = &parts[n],
						       .msg_iovlen = 1,
						       .msg_control = stamps[n],
						       .msg_controllen = sizeof(stamps[n]) };
	}
	int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);

	for (int n = 0; n < count; n++) {
		struct cmsghdr *stamp = CMSG_FIRSTHDR(&messages[n].msg_hdr);
		struct probe_frame head;
		struct timespec at;

		memcpy(&head, buffers[n], sizeof(head));
		memcpy(&at, CMSG_DATA(stamp), sizeof(at));
		uint64_t arrival = (uint64_t)at.tv_sec * NANO + (uint64_t)at.tv_nsec;
		uint32_t took = arrival > head.sent ? (uint32_t)(arrival - head.sent) : 0;
		uint32_t record[3] = { head.number, took, (uint32_t)((arrival - start) / 1000) };

		fwrite(record, sizeof(record), 1, stdout);
	}
	return count > 0;
}

/* Had no CPU from `due` (CLOCK_MONOTONIC) on; returns the time now. */
static uint64_t stalled(uint64_t due)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), wall = clock_ns(CLOCK_REALTIME);

	if (now > due + LATE_NS)
		fprintf(stderr, "stall %llu %llu\n", (unsigned long long)(wall - (now - due)), (unsigned long long)wall);
	return now;
}

static int measure(char **argument)
{
	int out = open_device(argument[0], argument[1]), in = open_device(argument[2], argument[3]);
	uint32_t count = (uint32_t)strtoul(argument[4], NULL, 10), sent = 0;
	uint64_t interval = strtoull(argument[5], NULL, 10), next = clock_ns(CLOCK_MONOTONIC), now, wake;
	uint64_t start = clock_ns(CLOCK_REALTIME);
	size_t bytes = strtoul(argument[6], NULL, 10);
	struct pollfd wait = { .fd = in, .events = POLLIN };

	fprintf(stderr, "start %llu\n", (unsigned long long)start);
	for (; sent < count || clock_ns(CLOCK_MONOTONIC) < next + DRAIN_NS;) {
		while (receive(in, start))
			;
		fill(buffers[0]);
		now = clock_ns(CLOCK_MONOTONIC);
		if (now > next + LATE_NS)
			next = now;
		for (; sent < count && next <= now; next += interval)
			send_one(out, sent++, bytes);
		wake = sent < count ? next : next + DRAIN_NS;
		now = stalled(now);
		if (wake > now) {
			struct timespec rest = { (time_t)((wake - now) / NANO), (long)((wake - now) % NANO) };

			ppoll(&wait, 1, &rest, NULL);
			stalled(wake);
		}
	}
	return fflush(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
	prctl(PR_SET_TIMERSLACK, 1UL);
	if (argc > 1 && !strcmp(argv[1], "measure"))
		stay_on_cpu(1 + getpid() % 7);
	if (argc == 6 && !strcmp(argv[1], "flood"))
		return flood(argv[2], argv[3], strtoul(argv[4], NULL, 10), strtod(argv[5], NULL));
	if (argc == 9 && !strcmp(argv[1], "measure"))
		return measure(argv + 2);
	fprintf(stderr, "usage: see the head of probe.c\n");
	return 2;
}
