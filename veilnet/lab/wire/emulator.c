/* SPDX-License-Identifier: Apache-2.0
 *
 * Wire emulator: carries whole Ethernet frames between pairs of devices and delays, loses, reorders, duplicates and
 * queues them. One process, one thread, many wires.
 *
 *     emulator SOCKET MEMORY     serve the control socket (SOCK_SEQPACKET, control.h); at most MEMORY bytes in flight
 *     emulator --decide          settings on the first line, frame lengths on the next: prints their fates, no devices
 *
 * Frames come by a TPACKET_V2 ring (no system call each, VLAN tag and arrival time beside the bytes), wait in a heap
 * ordered by release time and leave by sendmmsg past the qdisc. See docs/lab-wire.md.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "control.h"

#define HASTE -15 /* niceness: a burst fills a receive ring while others compute */

/* Frees what is due; sets the timer to the next release. */
static void release_due(void)
{
	struct itimerspec at = { 0 };
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	while (lab.waiting && lab.heap[0].release <= now) {
		struct frame *frame = heap_pop();

		out_add(frame->way, frame->data, frame->length, frame);
	}
	for (struct wire *w = lab.wires; w; w = w->next) {
		out_flush(&w->ways[0]);
		out_flush(&w->ways[1]);
	}
	if (lab.waiting) {
		at.it_value.tv_sec = (time_t)(lab.heap[0].release / NANO);
		at.it_value.tv_nsec = (long)(lab.heap[0].release % NANO);
	}
	timerfd_settime(lab.timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void on_signal(int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) == sizeof(info))
		lab.stopping = true;
}

static void on_event(struct source *source, uint32_t events)
{
	uint64_t expirations;
	int fd;

	switch (source->kind) {
	case SOURCE_PORT:
		port_read((struct port *)(void *)source, events);
		break;
	case SOURCE_TIMER:
		if (read(lab.timer, &expirations, sizeof(expirations)) < 0)
			break; /* release_due looks at the clock anyway */
		break;
	case SOURCE_SIGNAL:
		on_signal(source->fd);
		break;
	case SOURCE_LISTEN:
		fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			client_add(fd);
		break;
	case SOURCE_CLIENT:
		client_serve(source);
		break;
	}
}

static void serve(void)
{
	struct epoll_event events[64];

	while (!lab.stopping) {
		int n = epoll_wait(lab.epoll, events, 64, -1);

		for (int i = 0; i < n; i++)
			if (((struct source *)events[i].data.ptr)->kind != SOURCE_CLIENT)
				on_event(events[i].data.ptr, events[i].events);
		/* Last: a client may remove the wire whose port's event stands in the same list. */
		for (int i = 0; i < n; i++)
			if (((struct source *)events[i].data.ptr)->kind == SOURCE_CLIENT)
				on_event(events[i].data.ptr, events[i].events);
		release_due();
	}
}

static int signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int main(int argc, char **argv)
{
	static struct source timer = { SOURCE_TIMER, -1 }, stop = { SOURCE_SIGNAL, -1 }, listener = { SOURCE_LISTEN, -1 };

	if (argc == 2 && !strcmp(argv[1], "--decide"))
		return decide_offline();
	if (argc != 3) {
		fprintf(stderr, "usage: emulator SOCKET MEMORY | emulator --decide\n");
		return 2;
	}
	lab.memory = strtoull(argv[2], NULL, 10);
	lab.epoll = epoll_create1(EPOLL_CLOEXEC);
	timer.fd = lab.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	stop.fd = signals();
	umask(0077);
	listener.fd = listen_on(argv[1]);
	if (listener.fd < 0) {
		fprintf(stderr, "emulator: control socket %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	prctl(PR_SET_TIMERSLACK, 1UL);
	stay_on_cpu(0);
	setpriority(PRIO_PROCESS, 0, HASTE); /* as root; a wire does not wait for a CPU */
	if (watch(timer.fd, &timer) || watch(stop.fd, &stop) || watch(listener.fd, &listener)) {
		perror("emulator: epoll");
		return 1;
	}
	serve();
	unlink(argv[1]);
	return 0;
}
