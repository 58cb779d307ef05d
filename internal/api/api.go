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
	Version  string     `json:"version"`
	Started  time.Time  `json:"started"`
	DataDir  string     `json:"data_dir"`
	Mount    string     `json:"mount,omitempty"`
	Rest     string     `json:"rest,omitempty"`
	Ready    bool       `json:"ready"`
	Problems []string   `json:"problems"` // what needs the operator's attention, empty when all is well
	Volumes  []Volume   `json:"volumes"`
	Drives   []Drive    `json:"drives"`
	Metadata Metadata   `json:"metadata"`
	Write    WriteState `json:"write"`
	Cache    Cache      `json:"cache"`
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
	ID       string `json:"id"`
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Where    string `json:"where"`
	Tier     string `json:"tier"`
	Domain   string `json:"domain"`
	State    string `json:"state"` // online, offline
	Error    string `json:"error,omitempty"`
	Total    int64  `json:"total"`
	Used     int64  `json:"used"`
	Avail    int64  `json:"avail"`
	Reserve  int64  `json:"reserve"`
	Segments int64  `json:"segments"`
	Bytes    int64  `json:"bytes"` // of segments on it
}

// DriveAdd adds a directory as a drive. Domain defaults to the name.
type DriveAdd struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Tier    string `json:"tier,omitempty"`
	Domain  string `json:"domain,omitempty"`
	Reserve int64  `json:"reserve,omitempty"`
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

// Keys is a list of keys.
type Keys struct {
	Keys []Key `json:"keys"`
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
// only when no reader can hold an old location.
type GC struct {
	Now bool `json:"now,omitempty"`
}

// GCReport is what a pass did. Bytes.
type GCReport struct {
	Packed    int64    `json:"packed_frames"`
	Swept     int64    `json:"swept_chunks"`
	Compacted int64    `json:"compacted_segments"`
	Condemned int64    `json:"condemned_segments"`
	Deleted   int64    `json:"deleted_segments"`
	Freed     int64    `json:"freed_bytes"`
	Orphans   int64    `json:"orphan_files"`
	Kept      []string `json:"kept"` // what was kept because of a doubt, and which
}

// Fsck asks for a check. Deep reads every byte; Repair mends what can be.
type Fsck struct {
	Deep   bool `json:"deep,omitempty"`
	Repair bool `json:"repair,omitempty"`
}

// FsckEvent is a line of a running check: progress, a problem, or the end.
type FsckEvent struct {
	Phase   string `json:"phase,omitempty"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
	Problem string `json:"problem,omitempty"`
	Mended  bool   `json:"mended,omitempty"`
	// Clean is set in the last line of a check that found nothing, or mended
	// all it found.
	Clean    bool   `json:"clean,omitempty"`
	Problems int64  `json:"problems,omitempty"`
	End      bool   `json:"end,omitempty"`
	Error    string `json:"error,omitempty"`
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
	Copies []ExplainCopy `json:"copies"`
	// Survives is how many of its drives may fail without loss.
	Survives int `json:"survives"`
}

// ExplainCopy is one copy of a segment.
type ExplainCopy struct {
	Tier   string   `json:"tier"`
	Drives []string `json:"drives"`
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
	Xattrs map[string][]byte `json:"xattrs,omitempty"` // base64 in JSON; only of /v1/meta
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

// BatchOp is one operation. Op is mkdir, put, remove, rename, link, setattr or
// symlink. Data is base64 in JSON, at most 1 MiB each and 8 MiB a batch.
type BatchOp struct {
	Op       string     `json:"op"`
	Path     string     `json:"path"`
	To       string     `json:"to,omitempty"`
	Target   string     `json:"target,omitempty"`
	Data     []byte     `json:"data,omitempty"`
	Mode     *uint32    `json:"mode,omitempty"`
	Uid      *uint32    `json:"uid,omitempty"`
	Gid      *uint32    `json:"gid,omitempty"`
	Size     *int64     `json:"size,omitempty"`
	Mtime    *time.Time `json:"mtime,omitempty"`
	Atime    *time.Time `json:"atime,omitempty"`
	Parents  bool       `json:"parents,omitempty"`
	IfMatch  string     `json:"if_match,omitempty"` // an ETag
	IfAbsent bool       `json:"if_absent,omitempty"`
}

// BatchResult has what each operation's path is afterwards.
type BatchResult struct {
	Results []Meta `json:"results"`
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
