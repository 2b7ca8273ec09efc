-- What Django's migrations create on SQLite for the models of such a site.
CREATE TABLE "accounts_userprofile" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "username" varchar(150) NOT NULL UNIQUE,
    "profile_picture" varchar(100) NULL,
    "last_active" datetime NOT NULL
);

CREATE TABLE "accounts_usersession" (
    "id" char(32) NOT NULL PRIMARY KEY,
    "session_id" varchar(64) NOT NULL UNIQUE,
    "ip_address" char(39) NOT NULL,
    "user_agent" text NOT NULL,
    "device_info" text NOT NULL CHECK ((JSON_VALID("device_info") OR "device_info" IS NULL)),
    "location_data" text NOT NULL CHECK ((JSON_VALID("location_data") OR "location_data" IS NULL)),
    "device_fingerprint" varchar(64) NOT NULL,
    "fast_fingerprint" varchar(64) NOT NULL,
    "pages_visited" integer unsigned NOT NULL CHECK ("pages_visited" >= 0),
    "started_at" datetime NOT NULL,
    "ended_at" datetime NULL,
    "expires_at" datetime NOT NULL,
    "is_active" bool NOT NULL,
    "is_ended" bool NOT NULL,
    "persistent" bool NOT NULL,
    "termination_reason" varchar(50) NOT NULL,
    "user_id" bigint NOT NULL REFERENCES "accounts_userprofile" ("id") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "accounts_usersession_user_id_567c9519" ON "accounts_usersession" ("user_id");

CREATE TABLE "accounts_userevent" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "event_type" varchar(50) NOT NULL,
    "description" text NOT NULL,
    "metadata" text NOT NULL CHECK ((JSON_VALID("metadata") OR "metadata" IS NULL)),
    "ip_address" char(39) NOT NULL,
    "user_agent" text NOT NULL,
    "device_info" text NOT NULL CHECK ((JSON_VALID("device_info") OR "device_info" IS NULL)),
    "location_data" text NOT NULL CHECK ((JSON_VALID("location_data") OR "location_data" IS NULL)),
    "timestamp" datetime NOT NULL,
    "user_id" bigint NOT NULL REFERENCES "accounts_userprofile" ("id") DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "accounts_userevent_user_id_4ca2ef92" ON "accounts_userevent" ("user_id");

CREATE TABLE "communities_community" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "slug" varchar(100) NOT NULL UNIQUE,
    "name" varchar(200) NOT NULL,
    "is_private" bool NOT NULL
);
