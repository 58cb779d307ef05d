// Package api is what the REST door's administration says on the wire: request
// and response bodies as types, shared by daemon, client and command line.
//
// It owns: the JSON shapes, which are stable within /v1. It must not know how
// any request is carried out.
package api

import "time"

// Empty is the body of requests and responses that say nothing.
type Empty struct{}

// Status is what GET /v1/status says.
type Status struct {
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	DataDir  string    `json:"data_dir"`
	Mount    string    `json:"mount,omitempty"`
	Rest     string    `json:"rest,omitempty"`
	Ready    bool      `json:"ready"`
	Problems []string  `json:"problems"` // what needs the operator's attention, empty when all is well
	Volumes  []Volume  `json:"volumes"`
	Drives   []Drive   `json:"drives"`
	Metadata Metadata  `json:"metadata"`
	// Following is set where the server only follows another one.
	Following *Following `json:"following,omitempty"`
	Write     WriteState `json:"write"`
	Backlog   Backlog    `json:"backlog"`
	Cache     Cache      `json:"cache"`
}

// Following is how a server fares that shows, read-only, what another one writes.
type Following struct {
	URL   string `json:"url"`
	Seq   uint64 `json:"seq"`             // newest batch that is shown
	Error string `json:"error,omitempty"` // why newer ones cannot be seen now
}

// Metadata is the state of the metadata engine. Sizes are bytes.
type Metadata struct {
	Engine     string `json:"engine"`
	LastSeq    uint64 `json:"last_seq"`
	DurableSeq uint64 `json:"durable_seq"`
	DiskBytes  int64  `json:"disk_bytes"`
	// BackupSeq is the newest batch that every drive's checkpoint and batches
	// hold.
	BackupSeq uint64 `json:"backup_seq"`
}

// MetaBackup asks for a backup of all metadata in a place: the absolute path of a
// directory or the URL of a bucket, which holds nothing else.
type MetaBackup struct {
	To string `json:"to"`
}

// MetaBackedUp says what a backup holds, as it was read back.
type MetaBackedUp struct {
	Place string    `json:"place"`
	AsOf  time.Time `json:"as_of"` // of the newest change in it
	Seq   uint64    `json:"seq"`   // its batch
}

// MetaBackupEvent is a line of a backup: how many bytes a phase has moved until
// then. The last line has End, with Backup where it succeeded.
type MetaBackupEvent struct {
	Phase  string        `json:"phase,omitempty"`
	Done   int64         `json:"done_bytes,omitempty"`
	Backup *MetaBackedUp `json:"backup,omitempty"`
	End    bool          `json:"end,omitempty"`
	Error  string        `json:"error,omitempty"`
}

// MetaDump asks for all metadata. Encrypt seals it with the key of the store.
type MetaDump struct {
	Encrypt bool `json:"encrypt,omitempty"`
}

// WriteState is what has been written but not yet reached a segment. Bytes.
type WriteState struct {
	DirtyBytes   int64 `json:"dirty_bytes"`
	JournalBytes int64 `json:"journal_bytes"`
}

// Cache is the state of the cache of chunks. Bytes and counts since start.
type Cache struct {
	Bytes  int64 `json:"bytes"`
	Hits   int64 `json:"hits"`
	Misses int64 `json:"misses"`
}

// Volume is a volume as listed and shown.
type Volume struct {
	ID          uint32    `json:"id"`
	Name        string    `json:"name"`
	Created     time.Time `json:"created"`
	Encrypted   bool      `json:"encrypted"`
	Cipher      string    `json:"cipher"`
	KeyVersion  uint32    `json:"key_version"`
	Policy      string    `json:"policy"`
	Bytes       int64     `json:"bytes"`
	Inodes      int64     `json:"inodes"`
	QuotaBytes  int64     `json:"quota_bytes"` // 0: none
	QuotaInodes int64     `json:"quota_inodes"`
	Deleting    bool      `json:"deleting,omitempty"`
}

// VolumeCreate asks for a new volume. Cipher is aes-256-gcm (the default),
// xchacha20-poly1305 or none; Policy is text as in `strake policy`.
type VolumeCreate struct {
	Name        string `json:"name"`
	Cipher      string `json:"cipher,omitempty"`
	Policy      string `json:"policy,omitempty"`
	QuotaBytes  int64  `json:"quota_bytes,omitempty"`
	QuotaInodes int64  `json:"quota_inodes,omitempty"`
}

// VolumeSet changes a volume; nil fields stay.
type VolumeSet struct {
	Name        string  `json:"name"`
	Rename      *string `json:"rename,omitempty"`
	Policy      *string `json:"policy,omitempty"`
	QuotaBytes  *int64  `json:"quota_bytes,omitempty"`
	QuotaInodes *int64  `json:"quota_inodes,omitempty"`
}

// Named names a volume or drive.
type Named struct {
	Name string `json:"name"`
}

// VolumeDelete deletes a volume with everything in it; Confirm repeats its name.
type VolumeDelete struct {
	Name    string `json:"name"`
	Confirm string `json:"confirm"`
}

// Volumes is a list of volumes.
type Volumes struct {
	Volumes []Volume `json:"volumes"`
}

// Drive is a drive as listed and shown. Bytes.
type Drive struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Where  string `json:"where"`
	Tier   string `json:"tier"`
	Domain string `json:"domain"`
	// State is online, suspect, offline, draining, retired or readonly.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	DriveLimits
	Total    int64 `json:"total"`
	Used     int64 `json:"used"`
	Avail    int64 `json:"avail"`
	Reserve  int64 `json:"reserve"`
	Segments int64 `json:"segments"`
	Bytes    int64 `json:"bytes"`            // of segments on it
	Cached   int64 `json:"cached,omitempty"` // bytes of it in the disk cache
	// Latency is what calls of a class (read, write, commit, …) took lately, in
	// nanoseconds: the moving average since the drive was opened.
	Latency map[string]time.Duration `json:"latency_ns,omitempty"`
}

// DriveLimits bound how a drive is used; 0 is no bound, or the default.
type DriveLimits struct {
	Quota    int64         `json:"quota,omitempty"`       // bytes that may be used
	Rate     int64         `json:"rate,omitempty"`        // bytes per second
	Calls    int           `json:"calls,omitempty"`       // at a time
	Deadline time.Duration `json:"deadline_ns,omitempty"` // of one call, nanoseconds
	Spindown bool          `json:"spindown,omitempty"`    // upkeep touches it in batches only
	Cache    int64         `json:"cache,omitempty"`       // bytes of it to keep on a local disk
}

// DriveAdd adds a directory or a bucket as a drive. Domain defaults to the
// name.
type DriveAdd struct {
	Name    string `json:"name"`
	Path    string `json:"path"` // absolute path, or URL of a bucket
	Tier    string `json:"tier,omitempty"`
	Domain  string `json:"domain,omitempty"`
	Reserve int64  `json:"reserve,omitempty"`
	// TakeOver claims a place that belongs to another store, or to a copy of this one.
	TakeOver bool `json:"take_over,omitempty"`
	DriveLimits
}

// DriveRemove asks to forget a drive. Lose allows that data is lost with it.
type DriveRemove struct {
	Name string `json:"name"`
	Lose bool   `json:"lose,omitempty"`
}

// ReplicasReq asks for what a drive holds: at most Limit entries after a
// segment.
type ReplicasReq struct {
	Name  string `json:"name"`
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"` // 0: 1000
}

// Replicas is a page of what a drive holds, oldest segment first.
type Replicas struct {
	Replicas []Replica `json:"replicas"`
	More     bool      `json:"more,omitempty"`
}

// Replica is a replica or shard of a segment on a drive.
type Replica struct {
	Segment string `json:"segment"`
	Blob    string `json:"blob"` // its name on the drive
	Bytes   int64  `json:"bytes"`
	Live    int64  `json:"live"` // bytes of the segment that are in use
	// Survives is how many drives of the segment may fail without loss; -1: it
	// cannot be read now.
	Survives int `json:"survives"`
}

// DriveSet changes a drive; nil fields stay. State is online or readonly.
type DriveSet struct {
	Name     string         `json:"name"`
	Rename   *string        `json:"rename,omitempty"`
	Path     *string        `json:"path,omitempty"` // where it is now, as after a disk was mounted elsewhere
	Tier     *string        `json:"tier,omitempty"`
	Domain   *string        `json:"domain,omitempty"`
	State    *string        `json:"state,omitempty"`
	Reserve  *int64         `json:"reserve,omitempty"`
	Quota    *int64         `json:"quota,omitempty"`
	Rate     *int64         `json:"rate,omitempty"`
	Calls    *int           `json:"calls,omitempty"`
	Deadline *time.Duration `json:"deadline_ns,omitempty"`
	Spindown *bool          `json:"spindown,omitempty"`
	Cache    *int64         `json:"cache,omitempty"`
	// TakeOver claims its place back from another store, or a copy of this one.
	TakeOver bool `json:"take_over,omitempty"`
}

// Drives is a list of drives.
type Drives struct {
	Drives []Drive `json:"drives"`
}

// PathReq names a file or directory of a volume ("" is the default volume).
type PathReq struct {
	Volume string `json:"volume,omitempty"`
	Path   string `json:"path"`
}

// PolicySet sets the policy of a path; Policy "" unsets it.
type PolicySet struct {
	Volume string `json:"volume,omitempty"`
	Path   string `json:"path"`
	Policy string `json:"policy"`
}

// Policy is what a path asked for itself and what holds for it.
type Policy struct {
	Path      string `json:"path"`
	Own       string `json:"own"`
	Effective string `json:"effective"`
	// Relayouts give what is there the copies that a policy asks for now: those of
	// the path, of what it is in and of what is in it that have not, the newest first.
	Relayouts []Job `json:"relayouts"`
	// Backlog is the copies that are pending, of the whole store.
	Backlog Backlog `json:"backlog"`
}

// QuotaSet sets the quota of a directory; zeros unset it.
type QuotaSet struct {
	Volume string `json:"volume,omitempty"`
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	Inodes int64  `json:"inodes"`
}

// Quota is a directory's quota and use.
type Quota struct {
	Path       string `json:"path"`
	Bytes      int64  `json:"bytes"`
	Inodes     int64  `json:"inodes"`
	UsedBytes  int64  `json:"used_bytes"`
	UsedInodes int64  `json:"used_inodes"`
}

// Du is what a subtree holds: Bytes as stat's st_blocks count them, Apparent
// as sizes.
type Du struct {
	Path     string `json:"path"`
	Bytes    int64  `json:"bytes"`
	Apparent int64  `json:"apparent"`
	Files    int64  `json:"files"`
	Dirs     int64  `json:"dirs"`
}

// Key is one version of a volume's data key.
type Key struct {
	Volume  string    `json:"volume"`
	Version uint32    `json:"version"`
	Cipher  string    `json:"cipher"`
	Created time.Time `json:"created"`
	Current bool      `json:"current"`
}

// Keys is a list of keys, of what opens the keyring that holds them, and of the
// volumes whose data is being encrypted anew.
type Keys struct {
	Keys      []Key      `json:"keys"`
	Wrappings []Wrapping `json:"wrappings"`
	Reencrypt []Rekeying `json:"reencrypt"`
}

// Wrapping is one key that opens the keyring.
type Wrapping struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"` // password, file, kms
	Name     string    `json:"name"`
	Provider string    `json:"provider,omitempty"`
	Key      string    `json:"key"`
	Created  time.Time `json:"created"`
}

// Rekeying is how far a volume's data is from needing its current key only.
// Bytes are as stored.
type Rekeying struct {
	Volume string `json:"volume"`
	To     uint32 `json:"to"`    // the version that is current
	Phase  string `json:"phase"` // journal, segments, inline, waiting
	Done   int64  `json:"done"`
	Total  int64  `json:"total"`
	Moved  int64  `json:"moved"`            // of Done, what was encrypted anew
	Needed string `json:"needed,omitempty"` // why old versions are kept, when last looked at
}

// KeyWrap adds a key that opens the keyring: password, file, or the name of a
// KMS in the configuration. Password is for the first only; empty: the
// configured or generated one.
type KeyWrap struct {
	Name     string `json:"name"`
	Password string `json:"password,omitempty"`
}

// KeyRotate makes a new data key for a volume. Prune instead drops the versions
// that nothing needs any more; Now does not wait out the delay before that.
type KeyRotate struct {
	Volume string `json:"volume"`
	Prune  bool   `json:"prune,omitempty"`
	Now    bool   `json:"now,omitempty"`
}

// KeyRotated is the outcome: the current version, and those that were dropped.
type KeyRotated struct {
	Volume  string   `json:"volume"`
	Version uint32   `json:"version"`
	Dropped []uint32 `json:"dropped"`
}

// Passwd changes the password that wraps the keys.
type Passwd struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// TrashList asks for entries of the trash.
type TrashList struct {
	Volume string `json:"volume,omitempty"`
	Limit  int    `json:"limit,omitempty"`
}

// TrashEntry is one deleted thing.
type TrashEntry struct {
	Ino     uint64    `json:"ino"`
	Path    string    `json:"path"`
	Type    string    `json:"type"`
	Size    int64     `json:"size"`
	Deleted time.Time `json:"deleted"`
	Expires time.Time `json:"expires"`
}

// Trash is a list of deleted things.
type Trash struct {
	Entries []TrashEntry `json:"entries"`
	More    bool         `json:"more"`
}

// TrashRestore restores an entry by its ino to To, or where it was.
type TrashRestore struct {
	Volume string `json:"volume,omitempty"`
	Ino    uint64 `json:"ino"`
	To     string `json:"to,omitempty"`
}

// TrashEmpty empties the trash of entries deleted before Before (zero: all),
// or only Ino.
type TrashEmpty struct {
	Volume string    `json:"volume,omitempty"`
	Ino    uint64    `json:"ino,omitempty"`
	Before time.Time `json:"before,omitzero"`
}

// Count is how many things were done.
type Count struct {
	Count int64 `json:"count"`
}

// GC asks for one pass of upkeep. Now takes the delays off, which is right
// only when no reader can hold an old location. Unreadable deletes also what is dead
// or has no record and is too damaged to say what is in it, once all metadata was
// searched and refers to none of it.
type GC struct {
	Now        bool `json:"now,omitempty"`
	Unreadable bool `json:"unreadable,omitempty"`
}

// Evict is POST /v1/admin/evict: which copies go from their tier. Tier "": from
// any; Path "": of everything; both empty: what is cached in memory goes.
type Evict struct {
	Volume string `json:"volume,omitempty"`
	Path   string `json:"path,omitempty"`
	Tier   string `json:"tier,omitempty"`
}

// EvictReport is what went. Kept says why evictable copies stayed, at most 100
// of them.
type EvictReport struct {
	Copies int64    `json:"copies"`
	Bytes  int64    `json:"bytes"` // of their segments
	Kept   []string `json:"kept"`
}

// Warmup is POST /v1/admin/warmup. Tier "": the hottest that the policy names.
type Warmup struct {
	Volume string `json:"volume,omitempty"`
	Path   string `json:"path"`
	Tier   string `json:"tier,omitempty"`
}

// WarmupEvent is a line of a warmup: what was done until then.
type WarmupEvent struct {
	Files    int64  `json:"files"`
	Segments int64  `json:"segments"`
	Promoted int64  `json:"promoted"` // bytes written to a hotter tier
	Cached   int64  `json:"cached"`   // bytes brought into a disk cache
	Failed   int64  `json:"failed"`   // segments that stay where they are
	Problem  string `json:"problem,omitempty"`
	End      bool   `json:"end,omitempty"`
	Error    string `json:"error,omitempty"`
}

// GCReport is what a pass did. Bytes.
type GCReport struct {
	Packed    int64 `json:"packed_frames"`
	Swept     int64 `json:"swept_chunks"`
	Compacted int64 `json:"compacted_segments"`
	Condemned int64 `json:"condemned_segments"`
	Deleted   int64 `json:"deleted_segments"`
	Freed     int64 `json:"freed_bytes"`
	Orphans   int64 `json:"orphan_files"`
	// Unreadable is how many of them did not say what is in them.
	Unreadable int64    `json:"unreadable_files"`
	Kept       []string `json:"kept"` // what was kept, because of a doubt or for now, and why
}

// Fsck asks for a check. Deep reads every byte; Repair mends what can be.
type Fsck struct {
	Deep   bool `json:"deep,omitempty"`
	Repair bool `json:"repair,omitempty"`
}

// UnitBytes is the unit of progress that is in bytes.
const UnitBytes = "bytes"

// FsckEvent is a line of a running check: progress, a problem, or the end.
type FsckEvent struct {
	Phase   string `json:"phase,omitempty"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"` // 0: not known
	Unit    string `json:"unit,omitempty"`  // of Done and Total: UnitBytes, or "", things of the phase
	Problem string `json:"problem,omitempty"`
	Mended  bool   `json:"mended,omitempty"`
	// AsOf is, in one line of a rebuild, when the last change of the metadata
	// was made that the drives had.
	AsOf *time.Time `json:"as_of,omitempty"`
	// Clean is set in the last line of a check that found nothing, or mended
	// all it found.
	Clean    bool   `json:"clean,omitempty"`
	Problems int64  `json:"problems,omitempty"`
	End      bool   `json:"end,omitempty"`
	Error    string `json:"error,omitempty"`
}

// DurabilityReq asks how likely a loss is. Copies, where given, is a policy's
// value to ask about instead of those in use. Rates are a year; what is not given
// is measured, stated or assumed, and 0 is given.
type DurabilityReq struct {
	Copies      string   `json:"copies,omitempty"`
	AFR         *float64 `json:"afr,omitempty"`          // probability that a drive fails
	Latent      *float64 `json:"latent,omitempty"`       // bad blocks in 10^12 bytes
	DomainLoss  *float64 `json:"domain_loss,omitempty"`  // probability that a failure domain is lost for good
	SiteLoss    *float64 `json:"site_loss,omitempty"`    // the same of this machine with all its drives
	BucketNines *float64 `json:"bucket_nines,omitempty"` // of an object, as its provider states: 11
	BucketLoss  *float64 `json:"bucket_loss,omitempty"`  // probability that the whole bucket is lost
	Ingest      *float64 `json:"ingest,omitempty"`       // bytes per second that are written
}

// Durability is how likely data is to be lost within a year.
type Durability struct {
	Policies []DurabilityOf `json:"policies"`
}

// DurabilityOf is that of data that should have the same copies.
type DurabilityOf struct {
	Copies    string            `json:"copies"`
	Bytes     int64             `json:"bytes"`
	Supposed  bool              `json:"supposed,omitempty"` // nothing lies so yet
	Loss      float64           `json:"loss"`               // probability that anything is lost
	Nines     *float64          `json:"nines,omitempty"`    // -log10 of loss; absent where nothing can be lost
	BytesLost float64           `json:"bytes_lost"`         // on average
	Error     string            `json:"error,omitempty"`    // why it cannot be computed: then there is nothing else
	Terms     []DurabilityTerm  `json:"terms"`              // the ways to lose data, the likeliest first
	Inputs    []DurabilityInput `json:"inputs"`
}

// DurabilityTerm is one way to lose data.
type DurabilityTerm struct {
	Share float64 `json:"share"` // of all losses
	Rate  float64 `json:"rate"`  // a year
	Text  string  `json:"text"`
}

// DurabilityInput is a figure the result rests on. Source is assumed, given,
// stated or measured.
type DurabilityInput struct {
	Copy   string  `json:"copy,omitempty"`
	Name   string  `json:"name"`
	Value  string  `json:"value"` // for people
	Figure float64 `json:"figure"`
	Unit   string  `json:"unit"` // of Figure
	Source string  `json:"source"`
}

// Explain is where every byte of a file lies.
type Explain struct {
	Path     string           `json:"path"`
	Ino      uint64           `json:"ino"`
	Size     int64            `json:"size"`
	Used     int64            `json:"used"`
	Policy   string           `json:"policy"`
	Dirty    int64            `json:"dirty_bytes"` // written, not yet stored
	Extents  []ExplainExtent  `json:"extents"`
	Segments []ExplainSegment `json:"segments"`
}

// ExplainExtent is one range of a file.
type ExplainExtent struct {
	Off      int64  `json:"off"`
	Len      int64  `json:"len"`
	Kind     string `json:"kind"` // data, inline, unwritten
	Chunk    string `json:"chunk,omitempty"`
	ChunkOff uint32 `json:"chunk_off"`
	ChunkLen uint32 `json:"chunk_len"`
	Segment  string `json:"segment,omitempty"`
	SegOff   uint32 `json:"segment_off"`
	Stored   uint32 `json:"stored_len"`
	Journal  bool   `json:"journal,omitempty"`
}

// ExplainSegment is one segment that holds part of a file.
type ExplainSegment struct {
	ID     string        `json:"id"`
	Size   int64         `json:"size"`
	Live   int64         `json:"live"`
	Want   string        `json:"want"` // the copies it should have, as in a policy
	Copies []ExplainCopy `json:"copies"`
	// Survives is how many of its drives may fail, whichever they are, without
	// loss: -1 where it cannot be read now.
	Survives int      `json:"survives"`
	Pending  *Pending `json:"pending,omitempty"` // where copies are owed or to go
}

// ExplainCopy is one copy of a segment.
type ExplainCopy struct {
	Tier     string     `json:"tier"`
	Layout   string     `json:"layout"` // "2" replicas or "4+2" shards
	Drives   []string   `json:"drives"` // replicas in no order; shards by index, "" where one is missing
	Verified *time.Time `json:"verified,omitempty"`
}

// Pending is a segment whose copies are not those it should have. Times are
// when it came to be so and when it is tried next.
type Pending struct {
	Segment  string    `json:"segment"`
	Size     int64     `json:"size"`
	Owed     []string  `json:"owed"` // copies to be written
	Surplus  []string  `json:"surplus,omitempty"`
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"` // that failed
	Next     time.Time `json:"next"`
	Error    string    `json:"error,omitempty"` // of the last attempt
	Waits    string    `json:"waits,omitempty"` // what it waits for at this moment
}

// PendingReq asks for what is pending: at most Limit entries after a segment.
type PendingReq struct {
	After string `json:"after,omitempty"`
	Limit int    `json:"limit,omitempty"` // 0: 1000
}

// PendingList is a page of what is pending, oldest segment first, and the whole
// of it in figures.
type PendingList struct {
	Backlog Backlog   `json:"backlog"`
	Pending []Pending `json:"pending"`
	More    bool      `json:"more,omitempty"`
	// Drives are those that cannot take what is owed to their tier.
	Drives []DriveTrouble `json:"drives,omitempty"`
}

// DriveTrouble is a drive that takes no copies, and why.
type DriveTrouble struct {
	Name  string     `json:"name"`
	Tier  string     `json:"tier"`
	State string     `json:"state"`           // as in Drive
	Since *time.Time `json:"since,omitempty"` // of a state that was observed
	Error string     `json:"error,omitempty"` // the last one
	Next  *time.Time `json:"next,omitempty"`  // when it is tried next; none: an administrator wants it so
}

// Backlog is the copies that are pending, as of a moment ago.
type Backlog struct {
	Segments int64      `json:"segments"`
	Bytes    int64      `json:"bytes"`
	Failing  int64      `json:"failing"` // whose last attempt failed
	Oldest   *time.Time `json:"oldest,omitempty"`
	Error    string     `json:"error,omitempty"` // of one that is failing
}

// Info is GET /v1/admin/info: what a path is, for people.
type Info struct {
	Path   string `json:"path"`
	Ino    uint64 `json:"ino"`
	Volume string `json:"volume"`
	Type   string `json:"type"`
	Size   int64  `json:"size"`
	Used   int64  `json:"used"`
	Files  int64  `json:"files"`
	Dirs   int64  `json:"dirs"`
	Policy string `json:"policy"`
	Chunks int64  `json:"chunks"`
}

// Wal is GET /v1/admin/wal: the journal's state.
type Wal struct {
	LastSeq      uint64 `json:"last_seq"`
	DurableSeq   uint64 `json:"durable_seq"`
	BackupSeq    uint64 `json:"backup_seq"`
	JournalBytes int64  `json:"journal_bytes"`
	DirtyBytes   int64  `json:"dirty_bytes"`
	// Backlog is the copies that follow what was acknowledged.
	Backlog Backlog `json:"backlog"`
}

// TokenCreate asks for a bearer token. Role is "admin", "write" or "read".
type TokenCreate struct {
	Name string `json:"name"`
	Role string `json:"role"`
}

// Token is a bearer token; Secret is shown once, when it is made.
type Token struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Secret  string    `json:"secret,omitempty"`
}

// Tokens is a list of tokens.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// Error is the body of every response that is not a success.
type Error struct {
	Kind    string `json:"kind"` // an fsapi kind's text
	Code    int    `json:"code"` // its number
	Message string `json:"message"`
}

// Meta is GET /v1/meta/PATH and an entry of a listing: what stat(2) says.
// Type is file, directory, symlink, chardev, blockdev, fifo or socket.
type Meta struct {
	Name   string            `json:"name"`
	Path   string            `json:"path,omitempty"`
	Ino    uint64            `json:"ino"`
	Type   string            `json:"type"`
	Mode   uint32            `json:"mode"`
	Uid    uint32            `json:"uid"`
	Gid    uint32            `json:"gid"`
	Nlink  uint32            `json:"nlink"`
	Size   int64             `json:"size"`
	Used   int64             `json:"used"`
	Rdev   uint32            `json:"rdev,omitempty"`
	Atime  time.Time         `json:"atime"`
	Mtime  time.Time         `json:"mtime"`
	Ctime  time.Time         `json:"ctime"`
	Btime  time.Time         `json:"btime"`
	ETag   string            `json:"etag"`
	Target string            `json:"target,omitempty"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"` // base64 in JSON; of /v1/meta, and of /v1/ls where asked for
	// RawName and RawTarget are the bytes of Name and Target where these are
	// no UTF-8, which JSON cannot say; base64 in JSON.
	RawName   []byte `json:"raw_name,omitempty"`
	RawTarget []byte `json:"raw_target,omitempty"`
	// Tiers, only of /v1/meta and of regular files, has a bit for each tier on
	// which all bytes of the file can be read: 1 hot, 2 warm, 4 cold. Bytes kept
	// with the metadata count as hot; bytes not stored yet are on no tier.
	Tiers *uint8 `json:"tiers,omitempty"`
}

// Listing is a page of GET /v1/ls/PATH, in order of name. Next, where not
// empty, is the `after` of the next page.
type Listing struct {
	Entries []Meta `json:"entries"`
	Next    string `json:"next,omitempty"`
}

// Batch is POST /v1/batch: all of Ops happen, in order, or none.
type Batch struct {
	Volume string    `json:"volume,omitempty"`
	Ops    []BatchOp `json:"ops"`
}

// BatchOp is one operation. Op is mkdir, put, remove, rename, link, setattr,
// symlink or mknod. Data is base64 in JSON, at most 1 MiB each and 8 MiB a batch.
// RawPath, RawTo and RawTarget, base64 in JSON, take the place of Path, To and
// Target that are no UTF-8.
type BatchOp struct {
	Op        string     `json:"op"`
	Path      string     `json:"path"`
	To        string     `json:"to,omitempty"`
	Target    string     `json:"target,omitempty"`
	Data      []byte     `json:"data,omitempty"`
	Mode      *uint32    `json:"mode,omitempty"`
	Uid       *uint32    `json:"uid,omitempty"`
	Gid       *uint32    `json:"gid,omitempty"`
	Size      *int64     `json:"size,omitempty"`
	Mtime     *time.Time `json:"mtime,omitempty"`
	Atime     *time.Time `json:"atime,omitempty"`
	Parents   bool       `json:"parents,omitempty"`
	Type      string     `json:"type,omitempty"` // of mknod: chardev, blockdev, fifo or socket
	Rdev      uint32     `json:"rdev,omitempty"` // of mknod: as stat(2) has it
	RawPath   []byte     `json:"raw_path,omitempty"`
	RawTo     []byte     `json:"raw_to,omitempty"`
	RawTarget []byte     `json:"raw_target,omitempty"`
	IfMatch   string     `json:"if_match,omitempty"` // an ETag
	IfAbsent  bool       `json:"if_absent,omitempty"`
}

// BatchResult has what each operation's path is afterwards.
type BatchResult struct {
	Results []Meta `json:"results"`
}

// Ranges is GET /v1/ranges/PATH: where a file holds data. What is between, and
// up to its size, is holes, which read as zeros. Next, where not 0, is the
// offset to ask from for more.
type Ranges struct {
	Size   int64   `json:"size"`
	Ranges []Range `json:"ranges"`
	Next   int64   `json:"next,omitempty"`
}

// Range is part of a file, in bytes.
type Range struct {
	Off int64 `json:"off"`
	Len int64 `json:"len"`
}

// Event is one change in GET /v1/events.
type Event struct {
	Seq     uint64 `json:"seq"`
	Kind    string `json:"kind"` // create, remove, rename, content, attr
	Ino     uint64 `json:"ino"`
	Dir     uint64 `json:"dir,omitempty"`
	Name    string `json:"name,omitempty"`
	FromDir uint64 `json:"from_dir,omitempty"`
	From    string `json:"from,omitempty"`
	Path    string `json:"path,omitempty"` // where it is known
	Door    string `json:"door,omitempty"`
	Type    string `json:"type,omitempty"`
	Volume  string `json:"volume,omitempty"`
}

// MountReq asks for a mount of a volume at Dir, or for its end.
type MountReq struct {
	Volume     string `json:"volume,omitempty"`
	Dir        string `json:"dir"`
	AllowOther bool   `json:"allow_other,omitempty"`
}

// Snapshot is a volume as it was at one moment. Held is the bytes that are kept
// for it, and perhaps for older ones, though the volume does not have them any
// more.
type Snapshot struct {
	ID       uint32    `json:"id"`
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	Until    time.Time `json:"until,omitzero"` // not deleted before
	Auto     bool      `json:"auto,omitempty"`
	Deleting bool      `json:"deleting,omitempty"`
	Held     int64     `json:"held_bytes"`
}

// Snapshots is a list of snapshots, the oldest first.
type Snapshots struct {
	Snapshots []Snapshot `json:"snapshots"`
}

// SnapshotReq names a snapshot.
type SnapshotReq struct {
	Volume string `json:"volume,omitempty"`
	Name   string `json:"name"`
}

// SnapshotCreate takes a snapshot. Before Until, where given, nobody deletes it.
type SnapshotCreate struct {
	Volume string    `json:"volume,omitempty"`
	Name   string    `json:"name"`
	Until  time.Time `json:"until,omitzero"`
}

// VolumeReq names a volume ("" is the default one).
type VolumeReq struct {
	Volume string `json:"volume,omitempty"`
}

// SnapshotDiff asks what differs between a snapshot and a newer one or, with To
// "", the present.
type SnapshotDiff struct {
	Volume string `json:"volume,omitempty"`
	From   string `json:"from"`
	To     string `json:"to,omitempty"`
}

// Difference is a line of a diff: a path that differs, or the end. Kind is
// created, removed, modified or renamed.
type Difference struct {
	Kind  string `json:"kind,omitempty"`
	Path  string `json:"path,omitempty"`
	From  string `json:"from,omitempty"` // renamed: where it was
	Type  string `json:"type,omitempty"`
	Ino   uint64 `json:"ino,omitempty"`
	End   bool   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}

// SnapshotRestore makes Path ("" for everything) what it was, or makes a copy of
// it at To.
type SnapshotRestore struct {
	Volume string `json:"volume,omitempty"`
	Name   string `json:"name"`
	Path   string `json:"path,omitempty"`
	To     string `json:"to,omitempty"`
}

// Clone makes a copy of From at To that shares its content. From may be below
// .strake/snapshots.
type Clone struct {
	Volume string `json:"volume,omitempty"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// CopyEvent is a line of a running restore or clone: progress, or the end.
type CopyEvent struct {
	Seen    int64    `json:"seen"`             // inodes looked at
	Changed int64    `json:"changed"`          // made, moved or made equal
	Removed int64    `json:"removed"`          // names taken away
	Kept    []string `json:"kept,omitempty"`   // under retention: as they are
	Before  string   `json:"before,omitempty"` // the snapshot of how it was before
	End     bool     `json:"end,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Schedule is how many snapshots of each period are kept of a volume; zeros:
// none is taken.
type Schedule struct {
	Volume  string `json:"volume"`
	Hourly  int    `json:"hourly"`
	Daily   int    `json:"daily"`
	Weekly  int    `json:"weekly"`
	Monthly int    `json:"monthly"`
}

// Schedules is a list of schedules.
type Schedules struct {
	Schedules []Schedule `json:"schedules"`
}

// RetentionSet changes what holds a file; what is not given stays. Mode is
// governance, compliance, or none. Override, for governance only, ends it
// sooner.
type RetentionSet struct {
	Volume   string    `json:"volume,omitempty"`
	Path     string    `json:"path"`
	Mode     string    `json:"mode,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Hold     *bool     `json:"hold,omitempty"`
	Override bool      `json:"override,omitempty"`
}

// Retention is what holds a file.
type Retention struct {
	Path   string    `json:"path"`
	Mode   string    `json:"mode,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	Hold   bool      `json:"hold"`
	Active bool      `json:"active"`
}

// Job is long work of upkeep. Arguments are as on the command line.
type Job struct {
	ID         uint64     `json:"id"`
	Kind       string     `json:"kind"`
	Args       []string   `json:"args"`
	State      string     `json:"state"` // queued, running, paused, done, failed, cancelled
	Done       int64      `json:"done"`  // segments, files or blobs
	Total      int64      `json:"total"` // 0: not known
	DoneBytes  int64      `json:"done_bytes"`
	TotalBytes int64      `json:"total_bytes"` // 0: not known
	Rate       int64      `json:"rate"`        // bytes per second lately
	Created    time.Time  `json:"created"`
	Started    *time.Time `json:"started,omitempty"`
	Updated    time.Time  `json:"updated"`
	Ended      *time.Time `json:"ended,omitempty"`
	Error      string     `json:"error,omitempty"`
	Note       string     `json:"note,omitempty"`
}

// Jobs is a list of jobs, the newest first, and what kinds there are.
type Jobs struct {
	Jobs  []Job     `json:"jobs"`
	Kinds []JobKind `json:"kinds"`
	Rate  int64     `json:"rate"` // bytes per second that all may read; negative: no bound
}

// JobKind is a kind of job.
type JobKind struct {
	Kind  string `json:"kind"`
	Usage string `json:"usage"`
	Help  string `json:"help"`
}

// JobStart asks for a job: drives are given by name, a relayout by volume and
// path.
type JobStart struct {
	Kind string   `json:"kind"`
	Args []string `json:"args"`
}

// JobID names a job.
type JobID struct {
	ID uint64 `json:"id"`
}

// JobRate is how many bytes per second all jobs may read; negative: no bound.
type JobRate struct {
	Rate int64 `json:"rate"`
}

// OnlyHere is what on a drive has no other readable copy.
type OnlyHere struct {
	Segments int64         `json:"segments"`
	Bytes    int64         `json:"bytes"`
	Listed   []OnlySegment `json:"listed"` // the first of them
}

// OnlySegment is a segment that only one drive has, with files whose data lies in
// it.
type OnlySegment struct {
	Segment string   `json:"segment"`
	Volume  string   `json:"volume"`
	Files   []string `json:"files"`
}
