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
	Data    Data    `toml:"data" doc:"Where Strake keeps what is its own, and the password that opens it."`
	Volume  Volume  `toml:"volume" doc:"What new volumes start from. A volume keeps what it was made with; change it with 'strake volume set'."`
	Drives  []Drive `toml:"drive" doc:"Places for segments. Where none is given, one directory inside data.dir is used. Drives can also be added with 'strake drive add'."`
	Fuse    Fuse    `toml:"fuse" doc:"The mount."`
	Rest    Rest    `toml:"rest" doc:"The REST door, metrics and health checks."`
	Memory  Memory  `toml:"memory" doc:"The bound of memory as a whole. The caches and buffers below must fit into it."`
	Cache   Cache   `toml:"cache" doc:"What is kept in memory to be read again."`
	Read    Read    `toml:"read" doc:"Reading ahead."`
	Write   Write   `toml:"write" doc:"Write-back: the way of written bytes from memory to segments."`
	Journal Journal `toml:"journal" doc:"The journal takes what little an fsync covers, beside the metadata, so that small barriers do not make small segments."`
	Segment Segment `toml:"segment" doc:"Segments, the files on drives."`
	GC      GC      `toml:"gc" doc:"Giving back the space of what was deleted or overwritten."`
	Backup  Backup  `toml:"backup" doc:"The encrypted copy of the metadata on every drive, from which 'strake fsck --rebuild' starts."`
	Log     Log     `toml:"log" doc:"Messages of the server, on standard error."`
}

// Data is [data].
type Data struct {
	Dir          string `toml:"dir" doc:"Data directory. The flag --data wins."`
	PasswordFile string `toml:"password_file" doc:"File that holds the password of the keyring. Empty: the environment variable named by password_env if it is set, else the file 'password' in the data directory, which is made with a generated password on first use."`
	PasswordEnv  string `toml:"password_env" doc:"Name of the environment variable that may hold the password."`
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
	Path    string `toml:"path" doc:"Directory, absolute."`
	Tier    string `toml:"tier" doc:"hot, warm or cold." default:"hot"`
	Domain  string `toml:"domain" doc:"What it fails together with: two drives of one domain never hold two replicas of a segment while others will do. Empty: its own name."`
	Reserve Size   `toml:"reserve" doc:"Free space that Strake leaves on the file system below." default:"1GiB"`
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
	Listen string `toml:"listen" doc:"HOST:PORT, or off: then only the socket in the data directory answers. Anything but a loopback address should stand behind TLS."`
}

// Memory is [memory].
type Memory struct {
	Limit Size `toml:"limit" doc:"Soft limit of the whole process (Go's GOMEMLIMIT, which wins where it is set). 0: none."`
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
	Pack    Size          `toml:"pack" doc:"Bytes in the journal at which they are packed into segments."`
	PackAge time.Duration `toml:"pack_age" doc:"Age at which they are packed, however few they are."`
}

// Segment is [segment].
type Segment struct {
	Size Size `toml:"size" doc:"Size at which a segment is closed and the next begun."`
}

// GC is [gc].
type GC struct {
	Delay    time.Duration `toml:"delay" doc:"Time between finding nothing live in a segment and deleting it."`
	Ratio    float64       `toml:"ratio" doc:"A segment with less than this part of it live is rewritten. 0: never."`
	Interval time.Duration `toml:"interval" doc:"Time between two passes."`
}

// Backup is [backup].
type Backup struct {
	Group      Size          `toml:"group" doc:"Bytes of metadata changes that are written to the drives together."`
	Age        time.Duration `toml:"age" doc:"Age at which changes are written to the drives, however few they are. Nothing is written while nothing changes."`
	Checkpoint Size          `toml:"checkpoint" doc:"Bytes of changes after which a new checkpoint takes their place; where the last checkpoint was larger than this, its size."`
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
		Volume:  Volume{Name: "main", Cipher: "aes-256-gcm"},
		Fuse:    Fuse{AllowOther: true, EntryTimeout: 5 * time.Minute, AttrTimeout: 5 * time.Minute, ReadAhead: 4 << 20},
		Rest:    Rest{Listen: "127.0.0.1:7420"},
		Memory:  Memory{Limit: 768 << 20},
		Cache:   Cache{Chunks: 128 << 20, Metadata: 64 << 20, Inodes: 50_000},
		Read:    Read{Ahead: 8 << 20, Prefetch: 16 << 20},
		Write:   Write{Dirty: 256 << 20, FlushAge: time.Second, Flushers: 2, Inline: 2 << 10},
		Journal: Journal{Max: 512 << 10, Pack: 32 << 20, PackAge: 5 * time.Minute},
		Segment: Segment{Size: 64 << 20},
		GC:      GC{Delay: 10 * time.Minute, Ratio: 0.5, Interval: time.Minute},
		Backup:  Backup{Group: 1 << 20, Age: 10 * time.Second, Checkpoint: 64 << 20},
		Log:     Log{Level: "info", Format: "text"},
	}
}
