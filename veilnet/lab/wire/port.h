/* SPDX-License-Identifier: Apache-2.0
 *
 * A device's end: packet(7) socket with a TPACKET_V2 receive ring (Documentation/networking/packet_mmap.rst).
 */
#ifndef VEILNET_WIRE_PORT_H
#define VEILNET_WIRE_PORT_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "wire.h"

#define ETHER_HEADER 14
#define VLAN_TAG 4
#define STALE_NS 100000000ULL /* an arrival time older than this is a stepped clock, not a late reader */
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#ifndef ETH_P_ALL
#define ETH_P_ALL 0x0003
#endif

/* On the n-th last CPU that we may use. A veth end hands its frames to the CPU that sent them: a sender that moves
 * reorders. */
static void stay_on_cpu(int n)
{
	cpu_set_t allowed, one;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	n %= CPU_COUNT(&allowed);
	CPU_ZERO(&one);
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--)
		if (CPU_ISSET(cpu, &allowed) && n-- == 0) {
			CPU_SET(cpu, &one);
			sched_setaffinity(0, sizeof(one), &one);
			return;
		}
}

/* Socket in the network namespace of that path ("-": ours). A socket stays where it was made. */
static int socket_in(const char *namespace)
{
	int home, there, fd = -1;

	if (!strcmp(namespace, "-"))
		return socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	there = open(namespace, O_RDONLY | O_CLOEXEC);
	if (home >= 0 && there >= 0 && !setns(there, CLONE_NEWNET)) {
		fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (setns(home, CLONE_NEWNET))
			abort(); /* every later socket would be made in the wrong place */
	}
	int error = errno;

	if (home >= 0)
		close(home);
	if (there >= 0)
		close(there);
	errno = error;
	return fd;
}

static int device_call(int fd, unsigned long call, const char *device, struct ifreq *request)
{
	memset(request, 0, sizeof(*request));
	snprintf(request->ifr_name, sizeof(request->ifr_name), "%s", device);
	return ioctl(fd, call, request);
}

/* Slots hold the device's MTU of now; a longer frame is counted as oversize. */
static int port_ring(struct port *port, const char *device, uint32_t slots)
{
	int fd = port->source.fd, version = TPACKET_V2, on = 1;
	unsigned int reserve = VLAN_TAG;
	struct ifreq request;
	struct tpacket_req ring;

	if (device_call(fd, SIOCGIFMTU, device, &request))
		return -1;
	uint32_t need = TPACKET2_HDRLEN + ETHER_HEADER + 2 * VLAN_TAG + 32 + (uint32_t)request.ifr_mtu;

	for (port->slot_size = 2048; port->slot_size < need;)
		port->slot_size *= 2;
	port->slots = slots;
	uint32_t block = port->slot_size > 65536 ? port->slot_size : 65536;

	ring = (struct tpacket_req){ block, slots / (block / port->slot_size), port->slot_size, slots };
	port->ring_size = (size_t)block * ring.tp_block_nr;
	if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_RESERVE, &reserve, sizeof(reserve)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)))
		return -1;
	port->ring = mmap(NULL, port->ring_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	return port->ring == MAP_FAILED ? -1 : 0;
}

static int port_bind(const struct port *port, const char *device)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct packet_mreq promiscuous = { .mr_type = PACKET_MR_PROMISC };
	struct ifreq request;

	if (device_call(port->source.fd, SIOCGIFINDEX, device, &request))
		return -1;
	address.sll_ifindex = promiscuous.mr_ifindex = request.ifr_ifindex;
	if (bind(port->source.fd, (struct sockaddr *)&address, sizeof(address)))
		return -1;
	return setsockopt(port->source.fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof(promiscuous));
}

static void port_close(struct port *port)
{
	int error = errno;

	if (port->ring && port->ring != MAP_FAILED)
		munmap(port->ring, port->ring_size);
	if (port->source.fd >= 0)
		close(port->source.fd);
	errno = error;
}

/* Opened, but not watched yet. -1 and errno on failure, nothing left open. */
static int port_open(struct port *port, const char *namespace, const char *device, uint32_t slots)
{
	port->source = (struct source){ SOURCE_PORT, socket_in(namespace) };
	if (port->source.fd >= 0 && !port_ring(port, device, slots) && !port_bind(port, device))
		return 0;
	port_close(port);
	return -1;
}

/* The kernel takes the VLAN tag out of the bytes; put it back in the space reserved before them. */
static uint8_t *tagged(const struct tpacket2_hdr *header, uint8_t *data, uint32_t *length)
{
	uint16_t tag[2] = { htons(header->tp_vlan_tpid), htons(header->tp_vlan_tci) };

	if (!(header->tp_status & TP_STATUS_VLAN_TPID_VALID))
		tag[0] = htons(0x8100);
	memmove(data - VLAN_TAG, data, 12);
	memcpy(data - VLAN_TAG + 12, tag, VLAN_TAG);
	*length += VLAN_TAG;
	return data - VLAN_TAG;
}

static void frame_in(struct way *way, struct tpacket2_hdr *header, uint64_t realtime_ahead, uint64_t now)
{
	uint8_t *data = (uint8_t *)header + header->tp_mac;
	uint64_t arrival = header->tp_sec * NANO + header->tp_nsec - realtime_ahead;
	uint32_t length = header->tp_len;
	struct counters *c = &way->counters;
	struct copy copies[2];

	if (arrival > now || now - arrival > STALE_NS)
		arrival = now;
	if (arrival < way->newest) /* behind one that was given another time: it stays behind */
		arrival = way->newest;
	way->newest = arrival;
	unsigned int count = decide(&way->chance, &way->impairment, length - ETHER_HEADER, copies, c->dropped);

	c->frames_in++;
	c->bytes_in += length;
	if (count && header->tp_snaplen < length) {
		c->dropped[DROP_OVERSIZE]++;
		return;
	}
	if (header->tp_status & TP_STATUS_VLAN_VALID)
		data = tagged(header, data, &length);
	c->duplicated += count > 1;
	for (unsigned int n = 0; n < count; n++)
		submit(way, &copies[n], data, length, arrival, now);
}

static struct tpacket2_hdr *slot_ready(const struct port *port, uint32_t slot)
{
	struct tpacket2_hdr *header = (void *)(port->ring + (size_t)slot * port->slot_size);

	return __atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER ? header : NULL;
}

/* Takes up to BATCH frames; their slots go back once what leaves at once has been sent. */
static void port_read(struct port *port, uint32_t events)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), ahead = clock_ns(CLOCK_REALTIME) - now;
	uint32_t first = port->slot;
	unsigned int taken = 0;
	struct tpacket2_hdr *header;

	if (events & EPOLLERR) { /* the device went down: read the error, or epoll repeats it for ever */
		int error;
		socklen_t size = sizeof(error);

		getsockopt(port->source.fd, SOL_SOCKET, SO_ERROR, &error, &size);
	}
	for (; taken < BATCH && taken < port->slots && (header = slot_ready(port, port->slot)); taken++) {
		frame_in(port->way, header, ahead, now);
		port->slot = (port->slot + 1) % port->slots;
	}
	out_flush(port->way);
	for (unsigned int n = 0; n < taken; n++) {
		header = (void *)(port->ring + (size_t)((first + n) % port->slots) * port->slot_size);
		__atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	}
}

/* Frames that found the ring full; the kernel forgets its count when asked. */
static void port_overruns(struct port *port)
{
	struct tpacket_stats stats;
	socklen_t size = sizeof(stats);

	if (!getsockopt(port->source.fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size))
		port->way->counters.overrun += stats.tp_drops;
}

#endif
