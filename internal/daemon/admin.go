package daemon

import (
	"context"
	"errors"
	"slices"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/door/rest"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// endpoints is the table of administration.
func (s *server) endpoints() []rest.Endpoint {
	n := s.n
	const read, write, admin = rest.RoleRead, rest.RoleWrite, rest.RoleAdmin
	return n.refuseChanges([]rest.Endpoint{
		rest.JSON("GET", "/v1/status", read, "How the server is.", s.status),

		rest.JSON("GET", "/v1/admin/volumes", read, "List volumes.", n.listVolumes),
		rest.JSON("GET", "/v1/admin/volumes/show", read, "Show one volume.", n.showVolume),
		rest.JSON("POST", "/v1/admin/volumes", admin, "Make a volume.", n.createVolume),
		rest.JSON("POST", "/v1/admin/volumes/set", admin, "Change a volume.", n.setVolume),
		rest.JSON("POST", "/v1/admin/volumes/delete", admin, "Delete a volume with everything in it.", s.deleteVolume),

		rest.JSON("GET", "/v1/admin/drives", read, "List drives.", n.listDrives),
		rest.JSON("GET", "/v1/admin/drives/show", read, "Show one drive.", n.showDrive),
		rest.JSON("POST", "/v1/admin/drives", admin, "Add a directory or a bucket as a drive.", n.addDrive),
		rest.JSON("POST", "/v1/admin/drives/set", admin, "Change a drive.", n.setDrive),
		rest.JSON("POST", "/v1/admin/drives/evacuate", admin, "Move everything on a drive elsewhere.", n.evacuateDrive),
		rest.JSON("POST", "/v1/admin/drives/remove", admin, "Forget a drive; refused while it holds the only copy of anything.", n.removeDrive),
		rest.JSON("GET", "/v1/admin/drives/replicas", read, "List what a drive holds of segments.", n.driveReplicas),

		rest.JSON("GET", "/v1/admin/policy", read, "A path's own policy and what holds for it.", n.showPolicy),
		rest.JSON("POST", "/v1/admin/policy", write, "Set or (empty) unset a path's policy.", n.setPolicy),
		rest.JSON("GET", "/v1/admin/quota", read, "A directory's quota and use.", n.showQuota),
		rest.JSON("POST", "/v1/admin/quota", admin, "Set or (zeros) unset a directory's quota.", n.setQuota),

		rest.JSON("GET", "/v1/admin/trash", read, "List deleted files, the oldest first.", n.listTrash),
		rest.JSON("POST", "/v1/admin/trash/restore", write, "Bring a deleted file back.", n.restoreTrash),
		rest.JSON("POST", "/v1/admin/trash/empty", admin, "Give up deleted files for good.", n.emptyTrash),

		rest.JSON("GET", "/v1/admin/snapshots", read, "List snapshots, the oldest first.", n.listSnapshots),
		rest.JSON("GET", "/v1/admin/snapshots/show", read, "Show one snapshot.", n.showSnapshot),
		rest.JSON("POST", "/v1/admin/snapshots", admin, "Take a snapshot.", n.createSnapshot),
		rest.JSON("POST", "/v1/admin/snapshots/delete", admin, "Give a snapshot up.", n.deleteSnapshot),
		rest.Stream("GET", "/v1/admin/snapshots/diff", read, "What differs between two snapshots, or one and the present.", diffFailed, n.diffSnapshots),
		rest.Stream("POST", "/v1/admin/snapshots/restore", admin, "Make everything, or a path, what it was, or a copy of that.", copyFailed, n.restoreSnapshot),
		rest.JSON("GET", "/v1/admin/snapshots/schedules", read, "List the schedules by which snapshots are taken.", n.listSchedules),
		rest.JSON("POST", "/v1/admin/snapshots/schedules", admin, "Set or (zeros) unset a volume's schedule.", n.setSchedule),
		rest.Stream("POST", "/v1/admin/clone", admin, "Copy a file or directory by sharing its content.", copyFailed, n.clone),
		rest.JSON("GET", "/v1/admin/retention", read, "What holds a file.", n.showRetention),
		rest.JSON("POST", "/v1/admin/retention", admin, "Put a file under retention, or change it.", n.setRetention),

		rest.JSON("GET", "/v1/admin/du", read, "What a subtree holds.", n.du),
		rest.JSON("GET", "/v1/admin/info", read, "What a path is, for people.", n.info),
		rest.JSON("GET", "/v1/admin/explain", read, "Where every byte of a file lies.", n.explain),

		rest.JSON("GET", "/v1/admin/keys", admin, "List the versions of data keys, what still needs old ones, and what opens the keyring.", n.listKeys),
		rest.JSON("POST", "/v1/admin/keys/passwd", admin, "Change the password.", n.passwd),
		rest.JSON("POST", "/v1/admin/keys/wrap", admin, "Let another key open the keyring, or wrap it anew with one that does.", n.wrapKeys),
		rest.JSON("POST", "/v1/admin/keys/unwrap", admin, "Take a key's right to open the keyring away.", n.unwrapKeys),
		rest.JSON("POST", "/v1/admin/keys/rotate", admin, "Make a new data key for a volume, or drop those that nothing needs.", n.rotateKey),
		rest.JSON("GET", "/v1/admin/tokens", admin, "List tokens.", n.listTokens),
		rest.JSON("POST", "/v1/admin/tokens", admin, "Make a token; its secret is shown once.", n.createToken),
		rest.JSON("POST", "/v1/admin/tokens/delete", admin, "Take a token's rights away.", n.deleteToken),

		rest.Stream("POST", "/v1/admin/meta/backup", admin, "Bring all metadata, encrypted, to a place of backups, and read it back.", backupFailed, n.backupMeta),
		rest.Raw("GET", "/v1/admin/meta/dump", admin, "All metadata as of one moment, as lines of JSON, or with encrypt as a sealed file of them.", n.dumpMeta),
		rest.JSON("POST", "/v1/admin/flush", admin, "Make everything written durable, on drives, with the metadata's copies.", n.flush),
		rest.JSON("POST", "/v1/admin/gc", admin, "One pass of packing, compaction and release.", n.gc),
		rest.JSON("GET", "/v1/admin/wal", read, "The state of the journal and of what follows it.", n.wal),
		rest.JSON("GET", "/v1/admin/jobs", read, "List jobs, the newest first.", n.listJobs),
		rest.JSON("GET", "/v1/admin/jobs/show", read, "Show one job.", n.showJob),
		rest.JSON("POST", "/v1/admin/jobs", admin, "Start a job, or find the one like it that is unfinished.", n.startJob),
		rest.JSON("POST", "/v1/admin/jobs/pause", admin, "Stop a job until it is resumed.", n.pauseJob),
		rest.JSON("POST", "/v1/admin/jobs/resume", admin, "Let a paused job go on.", n.resumeJob),
		rest.JSON("POST", "/v1/admin/jobs/cancel", admin, "End a job for good.", n.cancelJob),
		rest.JSON("POST", "/v1/admin/jobs/rate", admin, "Change how many bytes per second all jobs may read, until the next start.", n.jobRate),
		rest.JSON("GET", "/v1/admin/drives/only", read, "What on a drive has no other readable copy.", n.onlyOnDrive),
		rest.JSON("GET", "/v1/admin/durability", read, "How likely data is to be lost within a year.", n.durability),
		rest.JSON("GET", "/v1/admin/pending", read, "Segments whose copies are not those they should have.", n.pending),
		rest.JSON("POST", "/v1/admin/evict", admin, "Take evictable copies from a tier, of a path or all; without either, drop cached bytes from memory.", n.evict),
		rest.Stream("POST", "/v1/admin/warmup", admin, "Bring everything below a path to its hottest tier or the disk cache.", warmupFailed, n.warmup),
		rest.Stream("POST", "/v1/admin/fsck", admin, "Check every promise while the server runs.", fsckFailed, n.fsck),

		rest.JSON("POST", "/v1/admin/mount", admin, "Mount a volume on this machine.", s.mountReq),
		rest.JSON("POST", "/v1/admin/umount", admin, "Take a mount down.", s.umountReq),
	})
}

func (n *Node) listVolumes(ctx context.Context, _ api.Empty) (api.Volumes, error) {
	out := api.Volumes{Volumes: []api.Volume{}}
	recs, err := n.meta.Volumes(ctx)
	if err != nil {
		return out, err
	}
	for _, rec := range recs {
		v, err := n.describeVolume(ctx, rec)
		if err != nil {
			return out, err
		}
		out.Volumes = append(out.Volumes, v)
	}
	return out, nil
}

func (n *Node) describeVolume(ctx context.Context, rec meta.Volume) (api.Volume, error) {
	v := api.Volume{
		ID: uint32(rec.ID), Name: rec.Name, Created: rec.Created, Encrypted: rec.Encrypted, Policy: rec.Policy.String(),
		QuotaBytes: rec.Quota.Bytes, QuotaInodes: rec.Quota.Inodes, Deleting: rec.Deleting,
	}
	version, cipher, err := n.keys.Current(rec.ID)
	if err != nil && !errors.Is(err, fsapi.NotExist) {
		return v, err
	}
	v.Cipher, v.KeyVersion = cipher.String(), uint32(version)
	if rec.Deleting {
		return v, nil
	}
	err = n.meta.View(ctx, rec.ID, func(tx *meta.Tx) error {
		u, err := tx.Usage(fsapi.RootIno)
		v.Bytes, v.Inodes = u.Bytes, u.Inodes
		return err
	})
	return v, err
}

func (n *Node) volumeRecord(ctx context.Context, name string) (meta.Volume, error) {
	if name == "" {
		name = n.cfg.Volume.Name
	}
	return n.meta.VolumeByName(ctx, name)
}

func (n *Node) showVolume(ctx context.Context, req api.Named) (api.Volume, error) {
	rec, err := n.volumeRecord(ctx, req.Name)
	if err != nil {
		return api.Volume{}, err
	}
	return n.describeVolume(ctx, rec)
}

func (n *Node) createVolume(ctx context.Context, req api.VolumeCreate) (api.Volume, error) {
	if req.QuotaBytes < 0 || req.QuotaInodes < 0 {
		return api.Volume{}, fsapi.Errorf(fsapi.Invalid, "a quota is not negative; 0 is none")
	}
	if err := n.volumes.create(ctx, req.Name, req.Cipher, req.Policy, meta.Quota{Bytes: req.QuotaBytes, Inodes: req.QuotaInodes}); err != nil {
		return api.Volume{}, err
	}
	return n.showVolume(ctx, api.Named{Name: req.Name})
}

func (n *Node) setVolume(ctx context.Context, req api.VolumeSet) (api.Volume, error) {
	rec, err := n.volumeRecord(ctx, req.Name)
	if err != nil {
		return api.Volume{}, err
	}
	copies := rec.Policy.Copies
	if req.Policy != nil {
		p, err := policy.Parse(*req.Policy)
		if err != nil {
			return api.Volume{}, err
		}
		if err := n.drives.possible(p, p.Or(rec.Policy)); err != nil {
			return api.Volume{}, err
		}
		rec.Policy = p.Or(rec.Policy)
	}
	if req.QuotaBytes != nil {
		rec.Quota.Bytes = *req.QuotaBytes
	}
	if req.QuotaInodes != nil {
		rec.Quota.Inodes = *req.QuotaInodes
	}
	from := rec.Name
	if req.Rename != nil {
		if from == n.cfg.Volume.Name {
			return api.Volume{}, fsapi.Errorf(fsapi.Invalid, "%s is the default volume: change volume.name in the configuration first", from)
		}
		rec.Name = *req.Rename
	}
	if err := n.meta.SetVolume(ctx, rec); err != nil {
		return api.Volume{}, err
	}
	if rec.Name != from {
		n.volumes.rename(from, rec.Name)
	}
	if v := n.volumes.byID(rec.ID); v != nil {
		v.local.VolumeChanged()
	}
	if err := n.meta.Sync(ctx); err != nil {
		return api.Volume{}, err
	}
	if !slices.Equal(copies, rec.Policy.Copies) {
		if _, err := n.upkeep.Relayout(ctx, rec.ID, fsapi.RootIno); err != nil {
			return api.Volume{}, err
		}
	}
	return n.describeVolume(ctx, rec)
}

func (s *server) deleteVolume(ctx context.Context, req api.VolumeDelete) (api.Empty, error) {
	switch {
	case req.Confirm != req.Name || req.Name == "":
		return api.Empty{}, fsapi.Errorf(fsapi.Invalid, "confirm must repeat the volume's name, %q", req.Name)
	case req.Name == s.n.cfg.Volume.Name:
		return api.Empty{}, fsapi.Errorf(fsapi.Invalid, "%s is the default volume and cannot be deleted", req.Name)
	}
	if err := s.mounts.refuseMounted(req.Name); err != nil {
		return api.Empty{}, err
	}
	return api.Empty{}, s.n.volumes.delete(ctx, req.Name)
}

func (n *Node) listTokens(context.Context, api.Empty) (api.Tokens, error) { return n.tokens.all(), nil }

func (n *Node) createToken(ctx context.Context, req api.TokenCreate) (api.Token, error) {
	return n.tokens.create(ctx, req.Name, req.Role, n.clock.Now())
}

func (n *Node) deleteToken(ctx context.Context, req api.Named) (api.Empty, error) {
	return api.Empty{}, n.tokens.delete(ctx, req.Name)
}

func (n *Node) flush(ctx context.Context, _ api.Empty) (api.Empty, error) {
	for _, v := range n.volumes.all() {
		if err := v.local.Syncfs(ctx); err != nil {
			return api.Empty{}, err
		}
	}
	return api.Empty{}, n.ships.Flush(ctx)
}

func (n *Node) wal(ctx context.Context, _ api.Empty) (api.Wal, error) {
	journal, err := n.meta.JournalBytes(ctx)
	return api.Wal{
		LastSeq: uint64(n.engine.LastSeq()), DurableSeq: uint64(n.engine.DurableSeq()), BackupSeq: n.backupSeq(),
		JournalBytes: journal, DirtyBytes: n.budget.Used(), Backlog: backlogText(n.upkeep.Backlog()),
	}, err
}
