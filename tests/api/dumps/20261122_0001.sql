-- SPDX-License-Identifier: Apache-2.0
-- A database of the first schema that has lived: a table somebody else made, a column nobody knows, an orphan row.
INSERT INTO admin_tokens (id, name, hash, created_at, revoked_at) VALUES
 ('adm_01ka0000000000000000000000', 'first', 'scrypt$00$00', 1795300000, NULL),
 ('adm_01ka0000000000000000000001', 'old', 'scrypt$11$11', 1795300000, 1795300001);
INSERT INTO realms (id, name, wire_id, ca_key, ipv4_range, ipv6_prefix, min_guardians, rekey_seconds, idle_seconds, revision, created_at) VALUES
 ('rlm_01ka0000000000000000000000', 'lab', '00112233445566778899aabbccddeeff', 'AAAA', '10.90.0.0/16', 'fd00:1:2:3::/64', 2, 120, 300, 9, 1795300000),
 ('rlm_01ka0000000000000000000001', 'two', 'ffeeddccbbaa99887766554433221100', 'BBBB', '10.91.0.0/16', 'fd00:1:2:4::/64', 0, 1, 10, 1, 1795300009);
INSERT INTO enrolment_tokens (id, realm_id, secret_hash, roles, node_name, usage_limit, used, expires_at, created_at, revoked_at) VALUES
 ('tok_01ka0000000000000000000000', 'rlm_01ka0000000000000000000000', 'aa', '["guardian"]', 'g1', 1, 1, 1795400000, 1795300000, NULL),
 ('tok_01ka0000000000000000000001', 'rlm_01ka0000000000000000000000', 'bb', '["conflux"]', NULL, NULL, 7, 1795400000, 1795300000, 1795300100);
INSERT INTO nodes (id, realm_id, token_id, node_id, name, roles, ipv4, ipv6, certificate, certificate_serial, certificate_not_after, public_key, descriptor, descriptor_serial, descriptor_expires, credential_hash, created_at, last_seen_at, revoked_at) VALUES
 ('nod_01ka0000000000000000000000', 'rlm_01ka0000000000000000000000', 'tok_01ka0000000000000000000000', '000102030405060708090a0b0c0d0e0f', 'g1', '["guardian"]', '10.90.0.1', 'fd00:1:2:3::1', '{"payload": "", "key": "", "signature": ""}', 1, 1803000000, 'AAAA', '{"payload": "", "key": "", "signature": ""}', 3, 1795900000, 'cc', 1795300000, 1795310000, NULL),
 ('nod_01ka0000000000000000000001', 'rlm_01ka0000000000000000000000', 'tok_01ka0000000000000000000001', '101112131415161718191a1b1c1d1e1f', 'c1', '["conflux"]', '10.90.0.2', 'fd00:1:2:3::2', '{"payload": "", "key": "", "signature": ""}', 1, 1803000000, 'AAAA', '{"payload": "", "key": "", "signature": ""}', 1, 1795900000, 'dd', 1795300000, NULL, 1795310000),
 ('nod_01ka0000000000000000000002', 'rlm_01ka0000000000000000000000', 'tok_01ka0000000000000000000001', '202122232425262728292a2b2c2d2e2f', 'c1', '["conflux"]', '10.90.0.2', 'fd00:1:2:3::3', '{"payload": "", "key": "", "signature": ""}', 1, 1803000000, 'AAAA', '{"payload": "", "key": "", "signature": ""}', 1, 1795900000, 'ee', 1795300500, NULL, NULL);
INSERT INTO edges (id, realm_id, a_id, b_id, created_at) VALUES
 ('edg_01ka0000000000000000000000', 'rlm_01ka0000000000000000000000', 'nod_01ka0000000000000000000000', 'nod_01ka0000000000000000000002', 1795300600);
INSERT INTO snapshots (realm_id, version, envelope, renew_at) VALUES ('rlm_01ka0000000000000000000000', 9, '{}', 1796000000);
CREATE TABLE backup_of_nodes_2026 (id TEXT, note TEXT);
INSERT INTO backup_of_nodes_2026 VALUES ('x', 'somebody''s');
ALTER TABLE nodes ADD COLUMN rack TEXT;
UPDATE nodes SET rack = 'r7' WHERE name = 'g1';
