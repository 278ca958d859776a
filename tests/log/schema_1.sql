-- A log as the first schema had it, written by the server of that time: two rooms, one emptied, one key used.
PRAGMA application_id = 1667785076;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE identity (epoch TEXT NOT NULL, secret BLOB NOT NULL) STRICT;
INSERT INTO "identity" VALUES('3mlpcw',X'5B864BD8867CA9D39911CC0CC3EF3172');
CREATE TABLE keys (
            id INTEGER PRIMARY KEY, room INTEGER NOT NULL, user_id TEXT NOT NULL, key TEXT NOT NULL,
            place INTEGER NOT NULL, time INTEGER NOT NULL, UNIQUE (room, user_id, key)
        ) STRICT;
INSERT INTO "keys" VALUES(1,2,'g_0123456789abcde','7c1e',137438953474,1795000003000);
INSERT INTO "keys" VALUES(2,3,'g_fedcba987654321','k',206158430209,1795000005000);
CREATE TABLE messages (
            place INTEGER PRIMARY KEY, time INTEGER NOT NULL,
            user_id TEXT NOT NULL, user_name TEXT NOT NULL, text TEXT NOT NULL
        ) STRICT;
INSERT INTO "messages" VALUES(137438953473,1795000002000,'g_0123456789abcde','Brisk Otter 34','the first, forgotten by now');
INSERT INTO "messages" VALUES(137438953474,1795000003000,'g_0123456789abcde','Brisk Otter 34','hello');
INSERT INTO "messages" VALUES(137438953475,1795000004000,'g_fedcba987654321','Calm Crane 12','grüß 👋
quote '' and "');
INSERT INTO "messages" VALUES(206158430209,1795000005000,'g_fedcba987654321','Calm Crane 12','elsewhere');
CREATE TABLE rooms (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
            forgotten INTEGER NOT NULL DEFAULT 0, forgotten_time INTEGER NOT NULL DEFAULT 0
        ) STRICT;
INSERT INTO "rooms" VALUES(1,'empty',1,1795000001000);
INSERT INTO "rooms" VALUES(2,'lobby',0,0);
INSERT INTO "rooms" VALUES(3,'ops',0,0);
COMMIT;
