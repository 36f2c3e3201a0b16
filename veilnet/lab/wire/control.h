/* SPDX-License-Identifier: Apache-2.0
 *
 * Control socket: one text request a packet, one reply ("ok ..." or "error ...").
 *
 *     add WIRE NAMESPACE DEVICE NAMESPACE DEVICE SLOTS SEED SEED    a seed for each direction
 *     remove WIRE
 *     set WIRE 0|1 KEY=NUMBER...                                    all of a direction; what is left out is 0
 *     table N NUMBER...                                             quantiles of jitter, TABLE_SIZE of them
 *     settings WIRE 0|1                                             as `set` takes them, zeros included
 *     counters WIRE 0|1
 *     stop
 *
 * veilnet/lab/wire/control.py is the other end and checks values; here only what would break the process is refused.
 */
#ifndef VEILNET_WIRE_CONTROL_H
#define VEILNET_WIRE_CONTROL_H

#include <stddef.h>
#include <sys/un.h>

#include "port.h"

#define TABLES 8
#define REQUEST_SIZE 65536
#define MAX_QUEUE_FRAMES 1000000

static int16_t tables[TABLES][TABLE_SIZE];

static const struct {
	const char *name;
	size_t offset;
} SETTINGS[] = {
#define SETTING(field) { #field, offsetof(struct impairment, field) }
	SETTING(delay_ns),  SETTING(jitter_ns), SETTING(to_bad),    SETTING(to_good),	   SETTING(loss_good), SETTING(loss_bad),
	SETTING(reorder),   SETTING(gap),	SETTING(duplicate), SETTING(rate),	   SETTING(queue_ns),  SETTING(queue_frames),
	SETTING(mtu),	    SETTING(blackhole),
#undef SETTING
};

static const char *const DROP_NAMES[DROP_COUNT] = { "", "loss", "mtu", "blackhole", "queue", "memory", "oversize", "send" };

/* Reads KEY=NUMBER words; false and the word for an unknown one. */
static bool parse_settings(char **words, struct impairment *out, const char **wrong)
{
	for (char *word = strtok_r(NULL, " \n", words); word; word = strtok_r(NULL, " \n", words)) {
		char *equals = strchr(word, '=');
		size_t n = 0;

		*wrong = word;
		if (!equals)
			return false;
		uint64_t value = strtoull(equals + 1, NULL, 10);

		*equals = 0;
		if (!strcmp(word, "table")) {
			if (value > TABLES)
				return false;
			out->table = value ? tables[value - 1] : NULL;
			continue;
		}
		while (n < sizeof(SETTINGS) / sizeof(*SETTINGS) && strcmp(word, SETTINGS[n].name))
			n++;
		if (n == sizeof(SETTINGS) / sizeof(*SETTINGS))
			return false;
		*(uint64_t *)((char *)out + SETTINGS[n].offset) = value;
	}
	return true;
}

static struct wire *wire_named(const char *name)
{
	struct wire *wire = lab.wires;

	while (wire && name && strcmp(wire->name, name))
		wire = wire->next;
	return name ? wire : NULL;
}

static bool wire_open(struct wire *wire, char **words)
{
	char *argument[7];

	for (int n = 0; n < 7; n++)
		if (!(argument[n] = strtok_r(NULL, " \n", words))) {
			errno = EINVAL;
			return false;
		}
	uint32_t slots = (uint32_t)strtoul(argument[4], NULL, 10);

	for (int n = 0; n < 2; n++) {
		wire->ports[n].way = &wire->ways[n];
		wire->ways[n].out = &wire->ports[1 - n];
		rng_seed(&wire->ways[n].chance.rng, strtoull(argument[5 + n], NULL, 10));
	}
	if (port_open(&wire->ports[0], argument[0], argument[1], slots))
		return false;
	if (!port_open(&wire->ports[1], argument[2], argument[3], slots)) {
		if (!watch(wire->ports[0].source.fd, &wire->ports[0]) && !watch(wire->ports[1].source.fd, &wire->ports[1]))
			return true;
		port_close(&wire->ports[1]);
	}
	port_close(&wire->ports[0]);
	return false;
}

static void command_add(char **words, char *reply, size_t size)
{
	const char *name = strtok_r(NULL, " \n", words);
	struct wire *wire;

	if (!name || strlen(name) >= NAME_SIZE || wire_named(name)) {
		snprintf(reply, size, "error wire name %s is missing, too long or taken", name ? name : "");
		return;
	}
	wire = calloc(1, sizeof(*wire));
	if (!wire || !wire_open(wire, words)) {
		snprintf(reply, size, "error wire %s: %s", name, strerror(errno));
		free(wire);
		return;
	}
	snprintf(wire->name, sizeof(wire->name), "%s", name);
	wire->next = lab.wires;
	lab.wires = wire;
}

static void command_remove(struct wire *wire)
{
	struct wire **link = &lab.wires;

	while (*link != wire)
		link = &(*link)->next;
	*link = wire->next;
	heap_forget(wire);
	for (int n = 0; n < 2; n++) {
		out_flush(&wire->ways[n]);
		port_close(&wire->ports[n]);
		free(wire->ways[n].departures);
	}
	free(wire);
}

/* Frames that wait keep their release time; the chain of bursts starts in its good state when there are none. */
static void command_set(struct way *way, char **words, char *reply, size_t size)
{
	struct impairment wanted = { 0 };
	const char *wrong = "";
	uint64_t *departures = NULL;

	if (!parse_settings(words, &wanted, &wrong)) {
		snprintf(reply, size, "error setting %s", wrong);
		return;
	}
	if (wanted.queue_frames > MAX_QUEUE_FRAMES ||
	    (wanted.queue_frames && !(departures = calloc(wanted.queue_frames, sizeof(*departures))))) {
		snprintf(reply, size, "error queue_frames=%llu", (unsigned long long)wanted.queue_frames);
		return;
	}
	free(way->departures);
	way->departures = departures;
	way->departure = 0;
	if (!wanted.to_bad)
		way->chance.bad = false;
	way->impairment = wanted;
}

static void command_table(char **words, char *reply, size_t size)
{
	const char *word = strtok_r(NULL, " \n", words);
	unsigned long n = word ? strtoul(word, NULL, 10) : 0;

	if (n < 1 || n > TABLES) {
		snprintf(reply, size, "error table number");
		return;
	}
	for (int i = 0; i < TABLE_SIZE; i++) {
		word = strtok_r(NULL, " \n", words);
		tables[n - 1][i] = word ? (int16_t)strtol(word, NULL, 10) : 0;
	}
}

static void command_counters(struct wire *wire, int side, char *reply, size_t size)
{
	const struct counters *c = &wire->ways[side].counters;
	size_t used;

	port_overruns(&wire->ports[side]);
	used = (size_t)snprintf(reply, size,
				"ok frames_in=%llu bytes_in=%llu frames_out=%llu bytes_out=%llu duplicated=%llu "
				"reordered=%llu queued_frames=%llu queued_bytes=%llu overrun=%llu",
				(unsigned long long)c->frames_in, (unsigned long long)c->bytes_in,
				(unsigned long long)c->frames_out, (unsigned long long)c->bytes_out,
				(unsigned long long)c->duplicated, (unsigned long long)c->reordered,
				(unsigned long long)c->queued_frames, (unsigned long long)c->queued_bytes,
				(unsigned long long)c->overrun);
	for (int n = DROP_LOSS; n < DROP_COUNT && used < size; n++)
		used += (size_t)snprintf(reply + used, size - used, " %s=%llu", DROP_NAMES[n],
					 (unsigned long long)c->dropped[n]);
}

static void command_settings(const struct impairment *is, char *reply, size_t size)
{
	size_t used = (size_t)snprintf(reply, size, "ok table=%d",
				       is->table ? (int)((is->table - tables[0]) / TABLE_SIZE) + 1 : 0);

	for (size_t n = 0; n < sizeof(SETTINGS) / sizeof(*SETTINGS) && used < size; n++)
		used += (size_t)snprintf(reply + used, size - used, " %s=%llu", SETTINGS[n].name,
					 (unsigned long long)*(const uint64_t *)((const char *)is + SETTINGS[n].offset));
}

static void command_of_wire(const char *verb, char **words, char *reply, size_t size)
{
	const char *name = strtok_r(NULL, " \n", words), *side;
	struct wire *wire = wire_named(name);

	if (!wire) {
		snprintf(reply, size, "error no wire %s", name ? name : "");
		return;
	}
	if (!strcmp(verb, "remove")) {
		command_remove(wire);
		return;
	}
	side = strtok_r(NULL, " \n", words);
	if (!side || (strcmp(side, "0") && strcmp(side, "1")))
		snprintf(reply, size, "error direction");
	else if (!strcmp(verb, "set"))
		command_set(&wire->ways[*side - '0'], words, reply, size);
	else if (!strcmp(verb, "settings"))
		command_settings(&wire->ways[*side - '0'].impairment, reply, size);
	else
		command_counters(wire, *side - '0', reply, size);
}

/* Every change stands in the log (standard error) with the time, wall clock. */
static void log_change(const char *request, const char *reply)
{
	char at[32];
	time_t now = time(NULL);
	struct tm utc;

	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	fprintf(stderr, "%s %.400s: %s\n", at, request, reply);
}

static void execute(char *request, char *reply, size_t size)
{
	char log[512], *words = NULL, *verb;

	snprintf(log, sizeof(log), "%.500s", request);
	snprintf(reply, size, "ok");
	verb = strtok_r(request, " \n", &words);
	if (!verb)
		verb = "";
	if (!strcmp(verb, "add"))
		command_add(&words, reply, size);
	else if (!strcmp(verb, "table"))
		command_table(&words, reply, size);
	else if (!strcmp(verb, "stop"))
		lab.stopping = true;
	else if (!strcmp(verb, "set") || !strcmp(verb, "remove") || !strcmp(verb, "counters") ||
		 !strcmp(verb, "settings"))
		command_of_wire(verb, &words, reply, size);
	else
		snprintf(reply, size, "error request %s", verb);
	if (strcmp(verb, "counters") && strcmp(verb, "table") && strcmp(verb, "settings"))
		log_change(log, reply);
}

static void client_serve(struct source *client)
{
	static char request[REQUEST_SIZE];
	char reply[1024];
	ssize_t length = recv(client->fd, request, sizeof(request) - 1, MSG_DONTWAIT);

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (length <= 0) {
		close(client->fd);
		free(client);
		return;
	}
	request[length] = 0;
	execute(request, reply, sizeof(reply));
	send(client->fd, reply, strlen(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void client_add(int fd)
{
	struct source *client = malloc(sizeof(*client));

	if (client) {
		*client = (struct source){ SOURCE_CLIENT, fd };
		if (!watch(fd, client))
			return;
		free(client);
	}
	close(fd);
}

/* A socket left by a process that was killed is replaced; one that answers is not. */
static int listen_on(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		errno = EADDRINUSE;
		return -1;
	}
	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 16))
		return -1;
	return fd;
}

/* First line: SEED KEY=NUMBER...; optional line "table ..."; last line: frame lengths. One line a frame: its copies'
 * delays in ns, "first" for a reordered one, or nothing but "lost". */
static int decide_offline(void)
{
	static struct way way;
	char *line = NULL, *words = NULL, reply[64] = "ok";
	const char *wrong = "";
	size_t size = 0;

	if (getline(&line, &size, stdin) > 0 && !strncmp(line, "table", 5)) {
		strtok_r(line, " \n", &words);
		command_table(&words, reply, sizeof(reply));
		if (getline(&line, &size, stdin) < 0)
			return 2;
	}
	rng_seed(&way.chance.rng, strtoull(strtok_r(line, " \n", &words), NULL, 10));
	if (!parse_settings(&words, &way.impairment, &wrong) || getline(&line, &size, stdin) < 0) {
		fprintf(stderr, "emulator: setting %s\n", wrong);
		return 2;
	}
	for (char *word = strtok_r(line, " \n", &words); word; word = strtok_r(NULL, " \n", &words)) {
		struct copy copies[2];
		unsigned int count = decide(&way.chance, &way.impairment, strtoull(word, NULL, 10), copies, way.counters.dropped);

		for (unsigned int n = 0; n < count; n++) {
			if (copies[n].reordered)
				printf("first ");
			else
				printf("%lld ", (long long)copies[n].delay_ns);
		}
		puts(count ? "" : "lost");
	}
	free(line);
	return 0;
}

#endif
