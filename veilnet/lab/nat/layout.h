/* SPDX-License-Identifier: Apache-2.0 */
/* What the lab's translator and Python share. `tools/gen_contract.py` makes layout.py of it; no implicit padding. */
#ifndef VEIL_NAT_LAYOUT_H
#define VEIL_NAT_LAYOUT_H

#define VEIL_NAT_ENTRIES 32768	/* mappings, and permissions, that one node remembers; the least recently used go */
#define VEIL_NAT_FRAGMENTS 1024 /* datagrams whose later fragments are awaited */
#define VEIL_NAT_TRIES 64	/* ports tried for a new mapping */

/* RFC 4787, sections 4.1 (mapping) and 5 (filtering) */
#define VEIL_NAT_ENDPOINT_INDEPENDENT 0
#define VEIL_NAT_ADDRESS_DEPENDENT 1
#define VEIL_NAT_ADDRESS_AND_PORT_DEPENDENT 2

#define VEIL_NAT_PORTS_PRESERVE 0
#define VEIL_NAT_PORTS_RANDOM 1
#define VEIL_NAT_PORTS_SEQUENTIAL 2

struct veil_nat_config { /* Python writes all but `allocated` */
	__u64 udp_timeout; /* ns without an outbound packet */
	__u64 icmp_timeout;
	__u64 seed;	 /* of the port numbers */
	__u64 allocated; /* ports asked for so far; BPF counts */
	__be32 address;	 /* the public one */
	__u32 epoch;	 /* mappings of another epoch are void, their ports stay taken until they time out */
	__be16 port_low;
	__be16 port_high; /* both included */
	__u8 mapping;
	__u8 filtering;
	__u8 ports;
	__u8 hairpin;
	__u8 inbound_refresh;
	__u8 pad[7];
};

struct veil_nat_flow { /* what a mapping belongs to; remote fields are 0 where the kind does not look at them */
	__be32 inside;
	__be32 remote;
	__be16 port; /* ICMP echo: the identifier */
	__be16 remote_port;
	__u8 proto;
	__u8 pad[3];
};

struct veil_nat_port { /* a port of the public address */
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct veil_nat_mapping {
	struct veil_nat_flow flow;
	__u64 created; /* ns of CLOCK_MONOTONIC */
	__u64 used;
	__u32 epoch;
	__u32 pad;
};

struct veil_nat_permit { /* whom a mapping lets in; the value is the time of the last packet out */
	__u64 created;	     /* the mapping's, so that a port's next owner inherits nothing */
	__be32 remote;
	__be16 remote_port;
	__be16 port;
	__u8 proto;
	__u8 pad[7];
};

struct veil_nat_fragment { /* header of a fragmented datagram, as it came */
	__be32 source;
	__be32 destination;
	__be16 id;
	__u8 proto;
	__u8 pad;
};

struct veil_nat_rewrite { /* what its first fragment was turned into */
	__be32 source;
	__be32 destination;
};

#define VEIL_REASONS(X)                                                           \
	X(NAT_UNSET, DROP, "never counted: a program forgot its reason")          \
	X(NAT_OK_OUT, OK, "translated, inside to outside")                        \
	X(NAT_OK_IN, OK, "translated, outside to inside")                         \
	X(NAT_OK_HAIRPIN, OK, "translated twice, inside to inside")               \
	X(NAT_OK_ERROR, OK, "ICMP error translated, the quoted packet with it")   \
	X(NAT_OK_FRAGMENT, OK, "later fragment translated like its first")        \
	X(NAT_PASS, PASS, "left to the kernel: not IPv4, not UDP or ICMP, or the node's own") \
	X(NAT_DROP_SHORT, DROP, "shorter than its headers say")                   \
	X(NAT_DROP_NO_MAPPING, DROP, "to a port that no mapping holds")           \
	X(NAT_DROP_FILTERED, DROP, "mapping does not let this remote endpoint in") \
	X(NAT_DROP_NO_PORT, DROP, "no free port for a new mapping")               \
	X(NAT_DROP_HAIRPIN, DROP, "inside to inside by the public address, and hairpinning is off") \
	X(NAT_DROP_FRAGMENT, DROP, "fragment whose first one has not been seen")  \
	X(NAT_DROP_PRIVATE, DROP, "from outside to another address than the public one") \
	X(NAT_DROP_ICMP, DROP, "ICMP message that a NAT does not carry, or that quotes no mapping")

#define VEIL_REASON_ENUM(name, klass, text) VEIL_##name,
enum veil_reason { VEIL_REASONS(VEIL_REASON_ENUM) VEIL_REASON_MAX };

_Static_assert(sizeof(struct veil_nat_config) == 56, "veil_nat_config");
_Static_assert(sizeof(struct veil_nat_flow) == 16, "veil_nat_flow");
_Static_assert(sizeof(struct veil_nat_mapping) == 40, "veil_nat_mapping");
_Static_assert(sizeof(struct veil_nat_permit) == 24, "veil_nat_permit");
#endif
