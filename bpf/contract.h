/* SPDX-License-Identifier: Apache-2.0 */
/* The one contract between the BPF data plane and Python.
 *
 * Frame layout, limits, map keys and values, event layouts and exit reasons are written here and nowhere else.
 * `tools/gen_contract.py` turns this file into `veilnet/contract.py`; a test compares both field by field, in both
 * directions, with what the compiler laid out. No logic, no implicit padding; 0 always means "unset".
 *
 * Byte order: wire integers of VeilNet are little-endian (SipHash and ChaCha20 are); IP and UDP fields (`__be`) are
 * big-endian. "keyd writes" and "BPF writes" name the only writer of a field: arrays are mmapable, and keyd changes
 * single fields in place, never whole entries.
 */
#ifndef VEIL_CONTRACT_H
#define VEIL_CONTRACT_H

#define VEIL_SCHEMA 1 /* raise when the meaning of a field changes while its layout stays */

/* ---- sizes on the wire, bytes; sums of named parts ------------------------------------------------------------ */
#define VEIL_TAG_LEN 8					    /* SipHash-2-4 over header and the body's first bytes */
#define VEIL_HDR_LEN 8					    /* label 24 | budget 8 | counter 32, masked */
#define VEIL_FRAME_LEN (VEIL_TAG_LEN + VEIL_HDR_LEN)	    /* 16: what a hop reads and rewrites */
#define VEIL_BIND_LEN 7					    /* first bytes of the body, bound by the hop tag */
#define VEIL_FRAME_MIN (VEIL_FRAME_LEN + 16)		    /* 32: no frame is shorter */
#define VEIL_AEAD_TAG_LEN 16				    /* Poly1305 tag, first in a stream body */
#define VEIL_SHDR_LEN 8					    /* counter 32 | pad 16 | lane 8 | flags 8, masked */
#define VEIL_STREAM_LEN (VEIL_AEAD_TAG_LEN + VEIL_SHDR_LEN) /* 24 */
#define VEIL_ETH_LEN 14
#define VEIL_IP4_LEN 20
#define VEIL_IP6_LEN 40
#define VEIL_UDP_LEN 8
#define VEIL_OUTER4_LEN (VEIL_IP4_LEN + VEIL_UDP_LEN)			 /* 28 */
#define VEIL_OUTER6_LEN (VEIL_IP6_LEN + VEIL_UDP_LEN)			 /* 48 */
#define VEIL_OVERHEAD4 (VEIL_OUTER4_LEN + VEIL_FRAME_LEN + VEIL_STREAM_LEN) /* 68: IPv4 underlay */
#define VEIL_OVERHEAD6 (VEIL_OUTER6_LEN + VEIL_FRAME_LEN + VEIL_STREAM_LEN) /* 88: IPv6 underlay */
#define VEIL_HS_LEN 1232						 /* UDP payload of every handshake and control datagram: fits IPv6's 1280 */
#define VEIL_HS_BODY_LEN (VEIL_HS_LEN - VEIL_FRAME_LEN)			 /* 1216 */
#define VEIL_INNER_MAX 1472						 /* longest padded inner packet, 23 ChaCha20 blocks */
#define VEIL_EVENT_DATA_MAX 1536

/* ---- limits --------------------------------------------------------------------------------------------------- */
#define VEIL_LINKS 4096		 /* links per node; index 0 is never used */
#define VEIL_LINK_BUCKETS 4096	 /* power of two; 4 ways each */
#define VEIL_BUCKET_WAYS 4
#define VEIL_LABELS 65536	 /* labels a node hands out, power of two, at most 2^24; 0 is the link's own control */
#define VEIL_STREAMS 4096	 /* stream lanes per node; index 0 is never used */
#define VEIL_ROUTES 16384	 /* overlay prefixes */
#define VEIL_NETWORKS 16384	 /* entries for networks behind Confluxes */
#define VEIL_KNOCK_SEEN 65536	 /* knock tags remembered against replay */
#define VEIL_EVENT_BYTES 4194304 /* ring buffer */
#define VEIL_KNOCK_SOURCES 16384 /* addresses whose knocks are counted; the one not heard for longest goes first */
#define VEIL_KNOCK_RATE 256	 /* events a second to keyd, and at once: knocks of one source */
#define VEIL_KNOCK_BURST 256
#define VEIL_LINK_RATE 512 /* a link's own control (label 0) */
#define VEIL_LINK_BURST 128
#define VEIL_CIRCUIT_RATE 8 /* bodies of one circuit */
#define VEIL_CIRCUIT_BURST 64
#define VEIL_TRANSIT_RATE 1024 /* of all circuits of a link that have no stream yet, together */
#define VEIL_TRANSIT_BURST 256
#define VEIL_SHARE_KNOCK 512	/* events of the ring's 2595: knocks */
#define VEIL_SHARE_TRANSIT 1024 /* bodies of circuits without a stream */
#define VEIL_SHARE_WAIT 256	/* packets without a stream; the rest is for control of links and streams */
#define VEIL_LINK_WIN_WORDS 64	 /* 32 counters a word: accepts 63 * 32 = 2016 behind the newest */
#define VEIL_STREAM_WIN_WORDS 128 /* 127 * 32 = 4064 */
#define VEIL_COUNTER_LIMIT 0xfffff000 /* no frame is sent with a counter at or above */
#define VEIL_REKEY_FRAMES 16777216    /* 2^24: keyd rekeys before */
#define VEIL_L2_REFRESH_JIFFIES 250   /* age at which a cached next hop is looked up again */
#define VEIL_LANE_CONTROL 255	      /* end-to-end control, opened by keyd */
#define VEIL_SHDR_SLOT 1	      /* stream header flag: key slot */

/* ---- link ----------------------------------------------------------------------------------------------------- */
#define VEIL_LINK_UNSET 0
#define VEIL_LINK_PENDING 1 /* initiator waits for replies: rx[0] and `full` hold the reply keys, handshake frames only */
#define VEIL_LINK_UP 2

struct veil_sip_key { /* one direction of one epoch of a link */
	__u64 mac[2];
	__u64 enc[2];
};

struct veil_link_rx { /* keyd writes */
	struct veil_sip_key key;
	__u32 valid; /* set last, cleared first */
	__u32 pad;
	__u64 pad2[3];
};

struct veil_link_tx {
	struct veil_sip_key key; /* keyd writes */
	__u64 counter;		 /* BPF adds; keyd sets 0 only when it writes a new key into an unused slot */
	__u64 pad[3];
};

struct veil_l2 { /* BPF writes: next hop as the kernel's FIB gave it */
	__u8 dmac[6];
	__u8 smac[6];
	__u32 ifindex;
	__u64 stamp; /* jiffies of the look-up; 0 means none */
};

struct veil_addrs { /* underlay 5-tuple; IPv4 stands in the first four bytes, the rest is zero */
	__u8 remote[16];
	__u8 local[16];
	__be16 rport;
	__be16 lport;
	__u32 family; /* 4 or 6 */
};

struct veil_link {
	/* line 0: selection and liveness */
	__u32 state;   /* keyd: VEIL_LINK_* */
	__u32 rx_hint; /* BPF: slot that verified last */
	__u32 tx_slot; /* keyd: slot to send with */
	__u32 mtu;     /* keyd: longest IP packet on this link */
	__u64 rx_seen; /* BPF: jiffies of the last authenticated frame */
	__u64 tx_seen; /* BPF: jiffies of the last frame sent */
	__u64 rx_frames; /* BPF, approximate under several CPUs */
	__u32 ifindex;	 /* keyd: NIC of this link */
	__u32 pad[5];
	/* lines 1, 2 */
	struct veil_link_rx rx[2];
	/* lines 3, 4 */
	struct veil_link_tx tx[2];
	/* line 5 */
	struct veil_addrs addrs; /* keyd */
	struct veil_l2 l2;
	/* line 6 */
	__u64 full[2]; /* keyd: whole-body key of handshake frames while PENDING */
	__u64 own_due;	   /* BPF: bucket of label 0, see rate.h */
	__u64 transit_due; /* BPF: bucket of circuits without a stream */
	__u64 pad2[4];
	/* lines 7..22: replay windows, word = block 32 | bits 32; BPF writes, keyd zeroes a slot while it is invalid */
	__u64 win[2][VEIL_LINK_WIN_WORDS];
};

struct veil_link_way { /* keyd writes `link` last on insert, first (0) on removal */
	__be32 remote;
	__be32 local;
	__be16 rport;
	__be16 lport;
	__u32 link; /* 0: empty */
};

struct veil_link_bucket { /* one cache line */
	struct veil_link_way way[VEIL_BUCKET_WAYS];
};

/* ---- circuit: what a label that this node handed out means --------------------------------------------------- */
#define VEIL_CIRCUIT_UNSET 0
#define VEIL_CIRCUIT_FORWARD 1 /* swap label, seal for out_link */
#define VEIL_CIRCUIT_LOCAL 2   /* body goes to keyd */
#define VEIL_CIRCUIT_END 3     /* body is a stream's: open */
#define VEIL_CIRCUIT_F_HS_GRACE 1 /* END: a body of VEIL_HS_BODY_LEN that does not open goes to keyd */

struct veil_circuit { /* keyd writes, kind last; BPF writes `seen` */
	__u32 kind;
	__u32 in_link; /* the only link this label is valid on */
	__u32 out_link;
	__u32 out_label;
	__u32 stream; /* END: index of lane 0 */
	__u32 flags;
	__u64 seen; /* jiffies of the last frame */
	__u64 frames; /* BPF, approximate under several CPUs */
	__u64 due;    /* BPF: bucket of bodies for keyd, see rate.h */
	__u64 pad[2];
};

/* ---- stream lane: end-to-end session between two Confluxes, one entry per lane -------------------------------- */
#define VEIL_STREAM_UNSET 0
#define VEIL_STREAM_UP 1

struct veil_stream_key { /* one direction of one epoch; keyd writes */
	__u32 key[8]; /* ChaCha20-Poly1305 */
	__u32 valid;
	__u32 pad;
	__u64 counter; /* tx: BPF adds; rx: unused */
	__u64 pad2[2];
};

struct veil_stream {
	/* line 0 */
	__u32 state;	 /* keyd */
	__u32 peer;	 /* keyd: number of the remote node, compared with the route of an inner source address */
	__u32 out_link;	 /* keyd */
	__u32 out_label; /* keyd */
	__u32 tx_slot;	 /* keyd */
	__u32 lane;	 /* keyd */
	__u32 lanes;	 /* keyd: lanes of this stream, in consecutive entries, on lane 0's entry */
	__u32 budget;	 /* keyd: hop budget to start with */
	__u64 rx_seen;	 /* BPF: jiffies */
	__u64 tx_seen;	 /* BPF: jiffies */
	__u64 rx_frames; /* BPF, approximate under several CPUs */
	__u64 pad;
	/* line 1 */
	__u64 rx_hp[2]; /* keyd: SipHash key that masks the stream header; constant for the session */
	__u64 tx_hp[2];
	__u64 pad2[4];
	/* lines 2..5 */
	struct veil_stream_key rx[2];
	struct veil_stream_key tx[2];
	/* replay windows as in struct veil_link */
	__u64 win[2][VEIL_STREAM_WIN_WORDS];
};

/* ---- overlay routes: LPM trie, IPv4 as ::ffff:a.b.c.d --------------------------------------------------------- */
struct veil_route_key {
	__u32 prefixlen; /* bits of addr */
	__u8 addr[16];
};

#define VEIL_PEER_SELF 0xffffffff /* the route of an address of this node: what opened packets may be sent to */

struct veil_route {
	__u32 peer;   /* number of the remote node, or VEIL_PEER_SELF */
	__u32 stream; /* index of lane 0; 0: known, not connected: raise VEIL_EVENT_NO_STREAM */
};

/* ---- networks behind Confluxes: LPM trie, asked only where `routes` has no entry (docs/networks.md) ----------------- */
#define VEIL_NETWORK_SCOPE_BITS 32
#define VEIL_SCOPE_TO 0 /* `scope` of destinations; else the number of the peer that may send from the prefix, or
			 * VEIL_PEER_SELF for what opened packets may be delivered to */
#define VEIL_PEER_NONE 0 /* in veil_route.peer: a hole, counts as not found */

struct veil_network_key { /* value: veil_route; peer is the scope itself but under VEIL_SCOPE_TO */
	__u32 prefixlen; /* VEIL_NETWORK_SCOPE_BITS and bits of addr */
	__u32 scope;
	__u8 addr[16];
};

/* ---- configuration: one entry -------------------------------------------------------------------------------- */
struct veil_knock_key {
	__u64 mac[2];
	__u64 enc[2];
	__u64 full[2]; /* over the whole body, 40 bits of it stand in the header */
	__u64 valid;
	__u64 pad;
};

#define VEIL_EMIT_TC 0	     /* XDP_PASS, then TC redirect_neigh: always works */
#define VEIL_EMIT_REDIRECT 1 /* XDP redirect: where a probe has come back */

struct veil_config { /* keyd and loader write */
	__u64 bucket_seed;
	__u32 fib_ifindex; /* device with forwarding on that fib_lookup starts from */
	__u32 veil0p_ifindex;
	__be16 knock_port;
	__u16 dark; /* 1: drop what would be passed to the kernel after a failed check */
	__u32 emit; /* VEIL_EMIT_* */
	__u8 veil0_mac[6];
	__u8 veil0p_mac[6];
	__u32 inner_mtu;
	__u32 veil0_ifindex; /* a next hop behind it would send frames into the overlay */
	__u32 pad;
	__u64 pad2[2];
	struct veil_knock_key knock[2]; /* the slot that holds now and its nearest neighbour */
};

/* ---- events: BPF to keyd by ring buffer ----------------------------------------------------------------------- */
#define VEIL_EVENT_KNOCK 1	/* handshake frame: data = body */
#define VEIL_EVENT_CONTROL 2	/* authenticated frame for keyd: data = body; label 0 is the link's own control */
#define VEIL_EVENT_NO_STREAM 3	/* data = inner packet that waits */

struct veil_event {
	__u32 type;
	__u32 len;	/* bytes of data in use */
	__u32 link;	/* 0: none */
	__u32 label;
	__u32 stream;	/* CONTROL on an END circuit: stream */
	__u32 peer;	/* NO_STREAM: number of the remote node */
	__u32 ifindex;	/* ingress */
	__u32 slot;	/* KNOCK: knock slot 0 or 1 that verified */
	struct veil_addrs addrs;
	__u8 data[VEIL_EVENT_DATA_MAX];
};

#define VEIL_PART_KNOCK 0
#define VEIL_PART_TRANSIT 1
#define VEIL_PART_WAIT 2

struct veil_event_share { /* one entry: how much of the ring is taken, by who may fill only a part of it */
	__u64 raised[3]; /* BPF adds: events so far */
	__u64 taken[3];	 /* keyd: what `raised` was before it last emptied the ring */
	__u64 pad[2];
};

/* ---- what keyd needs to go on after a restart: sessions as it packed them, never read by BPF ------------------- */
#define VEIL_STATES 32768 /* more than all limits of links, streams (with circuit and peer) and relayed circuits add up to */
#define VEIL_STATE_LEN 1008

struct veil_state_key {
	__u32 kind; /* keyd's own numbering */
	__u32 index;
};

struct veil_state {
	__u32 len;
	__u32 version;
	__u64 stamp; /* unix ns of the write */
	__u8 data[VEIL_STATE_LEN];
};

/* ---- seal request for keyd's own frames: test_run input of veil_ctl, overwritten by the frame header ----------- */
struct veil_ctl_req {
	__u32 link;
	__u32 label;
	__u32 budget;
	__u32 flags; /* VEIL_CTL_F_* */
};
#define VEIL_CTL_F_EMIT 1 /* build outer headers and redirect: the emit probe, run with live frames */

/* ---- exits: every program leaves through one function that counts exactly one of these ------------------------ */
/* X(name, verdict class, meaning). OK: done; PASS: handed to the kernel untouched; DROP: silently gone. */
#define VEIL_REASONS(X)                                                                    \
	X(UNSET, DROP, "never counted: a program forgot its reason")                       \
	X(OK_FORWARD, OK, "frame relayed to the next hop")                                 \
	X(OK_OPEN, OK, "stream frame opened, inner packet delivered")                      \
	X(OK_SEAL, OK, "inner packet sealed and redirected")                               \
	X(OK_SEAL_TC, OK, "inner packet sealed, emitted by TC")                            \
	X(OK_EMIT, OK, "sealed frame sent by TC redirect_neigh")                           \
	X(OK_WAIT, OK, "inner packet handed to keyd until its stream is up")               \
	X(OK_KNOCK, OK, "handshake frame handed to keyd")                                  \
	X(OK_CONTROL, OK, "control frame handed to keyd")                                  \
	X(OK_CTL, OK, "keyd's own frame sealed")                                           \
	X(PASS_NOT_IP, PASS, "not IPv4")                                                   \
	X(PASS_NOT_UDP, PASS, "not UDP")                                                   \
	X(PASS_IP_OPTIONS, PASS, "IPv4 header with options")                               \
	X(PASS_FRAGMENT, PASS, "IPv4 fragment")                                            \
	X(PASS_TRUNCATED, PASS, "shorter than its headers say, or than a frame")           \
	X(PASS_NO_LINK, PASS, "unknown 5-tuple and not shaped as a knock")                 \
	X(PASS_KNOCK_TAG, PASS, "shaped as a knock, wrong tag")                            \
	X(PASS_KNOCK_BODY, PASS, "knock tag right, body digest wrong")                     \
	X(PASS_KNOCK_REPLAY, PASS, "knock seen before")                                    \
	X(PASS_LINK_TAG, PASS, "known link, wrong tag")                                    \
	X(PASS_LINK_REPLAY, PASS, "known link, counter seen before or too old")            \
	X(DROP_LABEL, DROP, "label unknown, or not valid on this link")                    \
	X(DROP_BUDGET, DROP, "hop budget used up")                                         \
	X(DROP_LINK_DOWN, DROP, "next link is not up")                                     \
	X(DROP_EXHAUSTED, DROP, "send counter at its limit: rekey did not happen")         \
	X(DROP_NO_ROUTE, DROP, "kernel has no route to the next hop")                      \
	X(DROP_LOOP, DROP, "kernel's route to the next hop leads into the overlay")        \
	X(DROP_NO_NEIGH, DROP, "kernel has no neighbour entry for the next hop")           \
	X(DROP_TOO_BIG, DROP, "frame longer than the next link's MTU")                     \
	X(DROP_EVENT_FULL, DROP, "event ring full")                                        \
	X(DROP_KNOCK_RATE, DROP, "more knocks than one source may send, or than keyd keeps up with") \
	X(DROP_CONTROL_RATE, DROP, "more for keyd than one link or circuit may send, or than it keeps up with")           \
	X(DROP_STREAM_DOWN, DROP, "stream, lane or key slot not in use")                   \
	X(DROP_STREAM_HDR, DROP, "stream header not well formed, or body too short or long") \
	X(DROP_STREAM_AUTH, DROP, "stream frame does not authenticate")                    \
	X(DROP_STREAM_REPLAY, DROP, "stream counter seen before or too old")               \
	X(DROP_INNER_BAD, DROP, "opened packet is not well-formed IP")                     \
	X(DROP_INNER_SRC, DROP, "inner source is neither an address nor a network of the peer") \
	X(DROP_INNER_NOT_OURS, DROP, "opened packet is for no address or network of this node") \
	X(DROP_INNER_NOT_IP, DROP, "packet from the host is not IP, or cut short")         \
	X(DROP_INNER_DST, DROP, "no node has the inner destination")                       \
	X(DROP_INNER_TOO_BIG, DROP, "inner packet longer than the overlay MTU")            \
	X(DROP_HEADROOM, DROP, "driver gave no room for the outer headers")                \
	X(DROP_CTL, DROP, "malformed seal request from keyd")                              \
	X(DROP_INTERNAL, DROP, "map look-up that can't fail failed")

#define VEIL_REASON_ENUM(name, klass, text) VEIL_##name,
enum veil_reason { VEIL_REASONS(VEIL_REASON_ENUM) VEIL_REASON_MAX };

/* ---- layout is part of the contract --------------------------------------------------------------------------- */
_Static_assert(sizeof(struct veil_sip_key) == 32, "veil_sip_key");
_Static_assert(sizeof(struct veil_link_rx) == 64, "veil_link_rx");
_Static_assert(sizeof(struct veil_link_tx) == 64, "veil_link_tx");
_Static_assert(sizeof(struct veil_l2) == 24, "veil_l2");
_Static_assert(sizeof(struct veil_addrs) == 40, "veil_addrs");
_Static_assert(sizeof(struct veil_link) == 7 * 64 + 2 * 8 * VEIL_LINK_WIN_WORDS, "veil_link");
_Static_assert(sizeof(struct veil_link_bucket) == 64, "veil_link_bucket");
_Static_assert(sizeof(struct veil_circuit) == 64, "veil_circuit");
_Static_assert(sizeof(struct veil_stream_key) == 64, "veil_stream_key");
_Static_assert(sizeof(struct veil_stream) == 6 * 64 + 2 * 8 * VEIL_STREAM_WIN_WORDS, "veil_stream");
_Static_assert(sizeof(struct veil_route_key) == 20, "veil_route_key");
_Static_assert(sizeof(struct veil_network_key) == 24, "veil_network_key");
_Static_assert(sizeof(struct veil_knock_key) == 64, "veil_knock_key");
_Static_assert(sizeof(struct veil_config) == 64 + 2 * 64, "veil_config");
_Static_assert(sizeof(struct veil_event) == 72 + VEIL_EVENT_DATA_MAX, "veil_event");
_Static_assert(sizeof(struct veil_event_share) == 64, "veil_event_share");
_Static_assert(sizeof(struct veil_state) == 16 + VEIL_STATE_LEN, "veil_state");
_Static_assert(sizeof(struct veil_ctl_req) == VEIL_FRAME_LEN, "veil_ctl_req");

#endif
