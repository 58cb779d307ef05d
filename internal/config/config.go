// Package config reads the configuration file: TOML with a table for each
// subsystem, ${ENV} in its values, unknown keys refused.
//
// It owns: the keys, their defaults, their documentation (docs/config.md is
// made from it), what values are possible. It must not know what any value
// does: daemon hands plain values to each layer's own options.
package config

import "time"

// Size is a number of bytes, written as "64MiB".
type Size int64

// Config is everything that can be configured. The tags are the documentation:
// Reference prints them.
type Config struct {
	Data      Data      `toml:"data" doc:"Where Strake keeps what is its own, and the password that opens it."`
	Engine    Engine    `toml:"engine" doc:"Where the metadata is kept: on this machine, or in a bucket that any machine can take over. See bucket.md."`
	Keys      Keys      `toml:"keys" doc:"What opens the keyring, which holds the keys of all data. See keys.md."`
	KMS       []KMS     `toml:"kms" doc:"Services that hold keys which may wrap the keyring. One that is listed is used once 'strake key wrap NAME' or keys.wrap says so."`
	Volume    Volume    `toml:"volume" doc:"What new volumes start from. A volume keeps what it was made with; change it with 'strake volume set'."`
	Drives    []Drive   `toml:"drive" doc:"Places for segments. Where none is given, one directory inside data.dir is used. Drives can also be added with 'strake drive add'."`
	Fuse      Fuse      `toml:"fuse" doc:"The mount."`
	Rest      Rest      `toml:"rest" doc:"The REST door, metrics and health checks."`
	Discovery Discovery `toml:"discovery" doc:"Announcing the server in the local network, for 'strake discover'."`
	Memory    Memory    `toml:"memory" doc:"The bound of memory as a whole. The caches and buffers below must fit into it."`
	Cache     Cache     `toml:"cache" doc:"What is kept in memory to be read again."`
	Read      Read      `toml:"read" doc:"Reading ahead."`
	Write     Write     `toml:"write" doc:"Write-back: the way of written bytes from memory to segments."`
	Journal   Journal   `toml:"journal" doc:"The journal takes what little an fsync covers, beside the metadata, so that small barriers do not make small segments."`
	Segment   Segment   `toml:"segment" doc:"Segments, the files on drives."`
	Tiering   Tiering   `toml:"tiering" doc:"What lies on which tier, among the copies that a policy marks evictable: see docs/tiers.md."`
	DiskCache DiskCache `toml:"disk_cache" doc:"The local cache of what is read from slow drives that have a 'cache' size."`
	GC        GC        `toml:"gc" doc:"Giving back the space of what was deleted or overwritten."`
	Scrub     Scrub     `toml:"scrub" doc:"Looking at what is stored, whether it is there and right. What is not is repaired from other copies."`
	Repair    Repair    `toml:"repair" doc:"Making anew what a lost drive held."`
	Jobs      Jobs      `toml:"jobs" doc:"Work of upkeep that is kept on record: see 'strake job'."`
	Backup    Backup    `toml:"backup" doc:"The encrypted copy of the metadata on every drive, from which 'strake fsck --rebuild' starts, and in places of their own."`
	Log       Log       `toml:"log" doc:"Messages of the server, on standard error."`
}

// Data is [data].
type Data struct {
	Dir          string `toml:"dir" doc:"Data directory. The flag --data wins."`
	PasswordFile string `toml:"password_file" doc:"File that holds the password of the keyring. Empty: the environment variable named by password_env if it is set, else the file 'password' in the data directory, which is made with a generated password on first use."`
	PasswordEnv  string `toml:"password_env" doc:"Name of the environment variable that may hold the password."`
}

// Engine is [engine].
type Engine struct {
	Kind  string        `toml:"kind" doc:"pebble: in data.dir. bucket: in the bucket at url, with the data; data.dir is a cache then."`
	URL   string        `toml:"url" doc:"Of kind bucket: its URL, as in 's3://BUCKET/PREFIX'. The flag --bucket sets it, and the kind."`
	Cache Size          `toml:"cache" doc:"Of kind bucket: metadata kept on the disk of this machine, encrypted."`
	Term  time.Duration `toml:"lease_term" doc:"With single_writer_lease: how long a machine that does not answer keeps the store. It is renewed four times in it, by a request each."`
	// ReadOnly follows what another server writes.
	ReadOnly bool `toml:"read_only" doc:"Of kind bucket: show what another server writes there, and change nothing. The flag --read-only sets it."`
	Lease    bool `toml:"single_writer_lease" doc:"Of kind bucket: keep a second machine out by a lease that is renewed, where the store does not keep conditions. Weaker: see bucket.md."`
}

// Bucket says that all state is in a bucket.
func (e *Engine) Bucket() bool { return e.Kind == "bucket" }

// Keys is [keys].
type Keys struct {
	Wrap string        `toml:"wrap" doc:"What wraps the keyring of a new store, any of which opens it: password, file and names of [[kms]], separated by commas. Later 'strake key wrap' and 'strake key unwrap' change it."`
	File string        `toml:"file" doc:"Key file, absolute: 32 random bytes, readable by the server's user only. Made where it is wanted and not there. Keep it on another disk than the data."`
	Wait time.Duration `toml:"wait" doc:"How long a start asks a KMS again that does not answer, before it gives up."`
}

// KMS is one [[kms]].
type KMS struct {
	Name            string `toml:"name" doc:"Name of the wrapping, unique, not password or file."`
	Provider        string `toml:"provider" doc:"transit (HashiCorp Vault, OpenBao) or aws (AWS KMS and what speaks its protocol)."`
	Address         string `toml:"address" doc:"URL of the service; https unless it is on this machine. For aws it may be empty: the region's."`
	Key             string `toml:"key" doc:"transit: name of the key, of type aes256-gcm96 or chacha20-poly1305. aws: key id, ARN or alias/NAME."`
	CAFile          string `toml:"ca_file" doc:"PEM certificates to trust besides the system's."`
	Mount           string `toml:"mount" doc:"transit: path at which the engine is mounted." default:"transit"`
	Namespace       string `toml:"namespace" doc:"transit: namespace."`
	TokenFile       string `toml:"token_file" doc:"transit: file that holds a token, read at each request. Empty, without role_id: the environment variable VAULT_TOKEN or BAO_TOKEN."`
	RoleID          string `toml:"role_id" doc:"transit: role id of an AppRole."`
	SecretIDFile    string `toml:"secret_id_file" doc:"transit: file that holds the AppRole's secret id."`
	Region          string `toml:"region" doc:"aws: region."`
	CredentialsFile string `toml:"credentials_file" doc:"aws: shared credentials file, read at each request. Empty: the environment variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."`
	Profile         string `toml:"profile" doc:"aws: profile in that file." default:"default"`
}

// Volume is [volume].
type Volume struct {
	Name   string `toml:"name" doc:"Name of the volume that is made with the data directory and served by default."`
	Policy string `toml:"policy" doc:"Policy of new volumes: any of copies, compression, chunking, ack, trash, atime, retention, as in 'compression=zstd-3 trash=7d' (trash is how long deleted files are kept). What is not given is as in 'strake policy show'."`
	Cipher string `toml:"cipher" doc:"aes-256-gcm, xchacha20-poly1305 (faster without AES instructions) or none."`
}

// Drive is one [[drive]].
type Drive struct {
	Name    string `toml:"name" doc:"Name of the drive, unique."`
	Path    string `toml:"path" doc:"Directory, absolute, or the URL of a bucket as in 's3://BUCKET/PREFIX'."`
	Tier    string `toml:"tier" doc:"hot, warm or cold." default:"hot"`
	Domain  string `toml:"domain" doc:"What it fails together with: two drives of one domain never hold two replicas of a segment while others will do. Empty: its own name."`
	Reserve Size   `toml:"reserve" doc:"Free space that Strake leaves on the file system below." default:"1GiB"`

	Quota    Size          `toml:"quota" doc:"Bytes that Strake may use there. 0: no bound but the drive's."`
	Rate     Size          `toml:"rate" doc:"Bytes per second, read and written. 0: no bound."`
	Calls    int           `toml:"calls" doc:"Calls at a time. 0: a bound that suits its kind."`
	Deadline time.Duration `toml:"deadline" doc:"Time after which a call is given up, so that a hung drive hangs nobody. 0: one that suits its kind."`
	Spindown bool          `toml:"spindown" doc:"The disk sleeps while it is not used: upkeep gathers its work for it, reads prefer other copies."`
	Cache    Size          `toml:"cache" doc:"Bytes of this drive that are kept in disk_cache.dir when they are read: for a bucket, a NAS or another slow drive. Empty: none." default:"0"`
}

// Fuse is [fuse].
type Fuse struct {
	Mount        string        `toml:"mount" doc:"Directory to mount at. Empty: no mount. The flag --mount wins."`
	Volume       string        `toml:"volume" doc:"Volume to mount. Empty: volume.name."`
	AllowOther   bool          `toml:"allow_other" doc:"Let other users than the server's into the mount."`
	Writeback    bool          `toml:"writeback" doc:"Let the kernel gather small writes before it passes them on."`
	EntryTimeout time.Duration `toml:"entry_timeout" doc:"How long the kernel may keep a name without asking. Changes through other doors reach it at once, whatever this says."`
	AttrTimeout  time.Duration `toml:"attr_timeout" doc:"How long the kernel may keep attributes without asking."`
	ReadAhead    Size          `toml:"read_ahead" doc:"Read-ahead of the kernel."`
}

// Rest is [rest].
type Rest struct {
	Listen  string `toml:"listen" doc:"HOST:PORT, or off: then only the socket in the data directory answers. Give tls_cert for anything but a loopback address."`
	TLSCert string `toml:"tls_cert" doc:"PEM file of the door's certificate, with those between it and its authority after it. Empty: plain HTTP. It is read again when it changes; so is the key."`
	TLSKey  string `toml:"tls_key" doc:"PEM file of the certificate's private key."`
}

// Discovery is [discovery].
type Discovery struct {
	Announce bool   `toml:"announce" doc:"Announce the REST door by multicast DNS (service _strake._tcp). Only one that listens beyond loopback is announced, whatever this says."`
	Name     string `toml:"name" doc:"Name to be found by, at most 63 bytes. Empty: the host's name."`
}

// Memory is [memory].
type Memory struct {
	Limit Size `toml:"limit" doc:"Soft limit of the whole process, what is mapped of the program's own file included: Go's runtime keeps to the rest (GOMEMLIMIT wins where it is set). A sixth of it may be held by all buckets together for segments that are sent in one request. 0: none."`
}

// Cache is [cache].
type Cache struct {
	Chunks   Size `toml:"chunks" doc:"Decoded chunks of files."`
	Metadata Size `toml:"metadata" doc:"Blocks of the metadata engine."`
	Inodes   int  `toml:"inodes" doc:"Inodes that are not in use but kept, a number."`
}

// Read is [read].
type Read struct {
	Ahead    Size `toml:"ahead" doc:"Bytes fetched ahead of one sequential reader. 0: none."`
	Prefetch Size `toml:"prefetch" doc:"Bytes being fetched ahead for all readers at one time."`
}

// Write is [write].
type Write struct {
	Dirty    Size          `toml:"dirty" doc:"Bytes written but not yet in a segment, for all volumes. Beyond it writers are slowed."`
	FlushAge time.Duration `toml:"flush_age" doc:"Age at which written bytes leave memory without an fsync."`
	Flushers int           `toml:"flushers" doc:"Files being written back at one time, for each volume."`
	Workers  int           `toml:"workers" doc:"Threads that hash, compress and encrypt. 0: one for each processor."`
	Inline   Size          `toml:"inline" doc:"A whole file up to this size, compressed and encrypted, is kept with the metadata. 0: none."`
}

// Journal is [journal].
type Journal struct {
	Max     Size          `toml:"max" doc:"Compressed and encrypted bytes of one barrier that go to the journal; a larger barrier makes a segment."`
	Pack    Size          `toml:"pack" doc:"Bytes in the journal at which they are packed into segments; up to 4 times as many while files are being written."`
	PackAge time.Duration `toml:"pack_age" doc:"Age at which they are packed, however few they are."`
}

// Segment is [segment].
type Segment struct {
	Size Size `toml:"size" doc:"Size at which a segment is closed and the next begun."`
}

// Tiering is [tiering].
type Tiering struct {
	High            float64       `toml:"high" doc:"Part of a drive's capacity in use at which evictable copies begin to go from it."`
	Low             float64       `toml:"low" doc:"Part at which they stop going. Above it nothing is promoted to the drive."`
	HotHigh         float64       `toml:"hot_high" doc:"high of drives of tier hot. 0: as high; so for the next five."`
	HotLow          float64       `toml:"hot_low" doc:"low of tier hot."`
	WarmHigh        float64       `toml:"warm_high" doc:"high of tier warm."`
	WarmLow         float64       `toml:"warm_low" doc:"low of tier warm."`
	ColdHigh        float64       `toml:"cold_high" doc:"high of tier cold."`
	ColdLow         float64       `toml:"cold_low" doc:"low of tier cold."`
	RecencyWeight   float64       `toml:"recency_weight" doc:"A segment's score is recency_weight / seconds since its last access + frequency_weight × accesses in 30 days; the lowest go first."`
	FrequencyWeight float64       `toml:"frequency_weight" doc:"See recency_weight."`
	MinAge          time.Duration `toml:"min_age" doc:"Younger segments are not evicted."`
	PromoteReads    int           `toml:"promote_reads" doc:"Accesses within promote_window that bring an evicted copy back."`
	PromoteWindow   time.Duration `toml:"promote_window" doc:"See promote_reads."`
	PromoteApart    time.Duration `toml:"promote_apart" doc:"Reads of a segment within this time of the first of them are one access: what is read once from end to end is not promoted."`
	PromoteRate     Size          `toml:"promote_rate" doc:"Bytes per second that promotion writes."`
	Gather          Size          `toml:"gather" doc:"Bytes that are gathered for drives that spin down before one is woken."`
	GatherAge       time.Duration `toml:"gather_age" doc:"Time after which one is woken, however little was gathered."`
}

// DiskCache is [disk_cache].
type DiskCache struct {
	Dir          string `toml:"dir" doc:"Directory on a fast local disk, absolute. Empty: the directory 'cache' in the data directory."`
	Page         Size   `toml:"page" doc:"Bytes that are fetched and kept together."`
	WriteThrough bool   `toml:"write_through" doc:"Keep what is written to a slow drive, too."`
}

// GC is [gc].
type GC struct {
	Delay    time.Duration `toml:"delay" doc:"Time between finding nothing live in a segment and deleting it."`
	Ratio    float64       `toml:"ratio" doc:"A segment with less than this part of it live is rewritten. 0: never."`
	Interval time.Duration `toml:"interval" doc:"Time between two passes."`
}

// Scrub is [scrub].
type Scrub struct {
	Shallow time.Duration `toml:"shallow" doc:"Time between looks whether every replica and shard is there with its size. 0: never."`
	Deep    time.Duration `toml:"deep" doc:"Time between readings of every stored byte. 0: never."`
}

// Repair is [repair].
type Repair struct {
	After time.Duration `toml:"after" doc:"How long a drive is offline before all that it held is made anew on others. What would not outlive the loss of another drive is made anew at once. 0: only when 'strake job start repair' says so."`
}

// Jobs is [jobs].
type Jobs struct {
	Running int           `toml:"running" doc:"Jobs that run at one time, those that make anew what is in danger aside."`
	Rate    Size          `toml:"rate" doc:"Bytes per second that jobs read together, those aside that make anew what a lost drive held: these go as fast as drives let them beside those who wait for their own data. 0: no bound. 'strake job rate' changes it until the next start."`
	Orphans time.Duration `toml:"orphans" doc:"Time between sweeps of drives for what no record knows. 0: never."`
}

// Backup is [backup].
type Backup struct {
	Group      Size          `toml:"group" doc:"Bytes of metadata changes that are written to the drives together."`
	Age        time.Duration `toml:"age" doc:"Age at which changes are written to the drives, however few they are. Nothing is written while nothing changes."`
	Checkpoint Size          `toml:"checkpoint" doc:"Bytes of changes after which a new checkpoint takes their place; where the last checkpoint was larger than this, its size."`
	Keep       time.Duration `toml:"keep" doc:"How far back the drives can restore the metadata as of any moment ('strake meta restore --at'). 0: only as of now. It does not keep the data of deleted files: gc.delay does."`
	KeepBytes  Size          `toml:"keep_bytes" doc:"Most bytes of past metadata on each drive; beyond it the oldest goes first, before its time. 0: no bound."`
	To         []string      `toml:"to" doc:"Places that take such copies besides the drives: absolute paths of directories, URLs of buckets as in 's3://BUCKET/PREFIX'. They hold nothing else and are no drives. 'strake meta restore --from' makes a store's metadata anew from one."`
}

// Log is [log].
type Log struct {
	Level  string `toml:"level" doc:"debug, info, warn or error."`
	Format string `toml:"format" doc:"text or json."`
}

// Default is the configuration without a file.
func Default() Config {
	return Config{
		Data:    Data{PasswordEnv: "STRAKE_PASSWORD"},
		Engine:  Engine{Kind: "pebble", Cache: 4 << 30, Term: time.Minute},
		Keys:    Keys{Wrap: "password", Wait: time.Minute},
		Volume:  Volume{Name: "main", Cipher: "aes-256-gcm"},
		Fuse:    Fuse{AllowOther: true, EntryTimeout: 5 * time.Minute, AttrTimeout: 5 * time.Minute, ReadAhead: 8 << 20},
		Rest:    Rest{Listen: "127.0.0.1:7420"},
		Memory:  Memory{Limit: 768 << 20},
		Cache:   Cache{Chunks: 128 << 20, Metadata: 64 << 20, Inodes: 50_000},
		Read:    Read{Ahead: 32 << 20, Prefetch: 64 << 20},
		Write:   Write{Dirty: 256 << 20, FlushAge: time.Second, Flushers: 2, Inline: 2 << 10},
		Journal: Journal{Max: 512 << 10, Pack: 32 << 20, PackAge: 5 * time.Minute},
		Segment: Segment{Size: 64 << 20},
		Tiering: Tiering{
			High: 0.9, Low: 0.8, RecencyWeight: 86400, FrequencyWeight: 1, MinAge: 10 * time.Minute,
			PromoteReads: 3, PromoteWindow: 24 * time.Hour, PromoteApart: 5 * time.Minute, PromoteRate: 32 << 20,
			Gather: 1 << 30, GatherAge: time.Hour,
		},
		DiskCache: DiskCache{Page: 256 << 10},
		GC:        GC{Delay: 10 * time.Minute, Ratio: 0.5, Interval: time.Minute},
		Scrub:     Scrub{Shallow: 24 * time.Hour, Deep: 30 * 24 * time.Hour},
		Repair:    Repair{After: time.Hour},
		Jobs:      Jobs{Running: 2, Rate: 64 << 20, Orphans: 24 * time.Hour},
		Backup:    Backup{Group: 4 << 20, Age: 10 * time.Second, Checkpoint: 256 << 20, Keep: 7 * 24 * time.Hour, KeepBytes: 4 << 30},
		Log:       Log{Level: "info", Format: "text"},
	}
}
