package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/telemetry"
	"github.com/strakefs/strake/internal/vfs"
)

func (s *server) status(ctx context.Context, _ api.Empty) (api.Status, error) {
	n := s.n
	kv := n.engine.Stats()
	out := api.Status{
		Version: Version(), Started: n.started, DataDir: n.at.dir, Rest: s.listen, Problems: []string{},
		Metadata: api.Metadata{Engine: n.cfg.Engine.Kind, LastSeq: uint64(n.engine.LastSeq()), DurableSeq: uint64(n.engine.DurableSeq()), DiskBytes: kv.DiskBytes, BackupSeq: n.backupSeq()},
	}
	if out.Following = n.followState(); out.Following != nil && out.Following.Error != "" {
		out.Problems = append(out.Problems, "what another server wrote last is not shown: "+out.Following.Error)
	}
	for _, m := range s.mounts.list() {
		out.Mount = strings.TrimPrefix(out.Mount+", "+m.dir, ", ")
	}
	err := s.isReady()
	if err != nil {
		out.Problems = append(out.Problems, err.Error())
	}
	out.Ready = err == nil
	vols, err := n.listVolumes(ctx, api.Empty{})
	if err != nil {
		return out, err
	}
	ds, err := n.listDrives(ctx, api.Empty{})
	if err != nil {
		return out, err
	}
	out.Volumes, out.Drives = vols.Volumes, ds.Drives
	for _, d := range ds.Drives {
		if d.Error != "" {
			out.Problems = append(out.Problems, fmt.Sprintf("drive %s: %s", d.Name, d.Error))
		}
	}
	if kv.Failure != nil && !errors.Is(kv.Failure, fsapi.Fenced) { // of that isReady tells
		out.Problems = append(out.Problems, fmt.Sprintf("metadata in %s: changes are refused until its log can be written: %v", n.at.dir, kv.Failure))
	}
	out.Problems = append(out.Problems, n.backups.problems(n.ships.Status())...)
	out.Problems = append(out.Problems, n.upkeepProblems()...)
	out.Write.DirtyBytes = n.budget.Used()
	if out.Write.JournalBytes, err = n.meta.JournalBytes(ctx); err != nil {
		return out, err
	}
	out.Backlog = backlogText(n.upkeep.Backlog())
	b := n.blob.Stats()
	out.Cache = api.Cache{Bytes: b.CacheBytes, Hits: int64(b.CacheHits), Misses: int64(b.CacheMisses)}
	return out, nil
}

// registerMetrics exposes every layer's figures.
func (n *Node) registerMetrics() {
	n.metrics.Register(n.trace, telemetry.Samples(n.samples))
}

func (n *Node) samples() []telemetry.Sample {
	b, e, u := n.blob.Stats(), n.engine.Stats(), n.upkeep.Progress()
	counter := func(name, help string, v uint64) telemetry.Sample {
		return telemetry.Sample{Name: name, Help: help, Value: float64(v)}
	}
	gauge := func(name, help string, v int64) telemetry.Sample {
		return telemetry.Sample{Name: name, Help: help, Gauge: true, Value: float64(v)}
	}
	backlog, c := n.upkeep.Backlog(), n.drives.cacheStats()
	refusing := int64(0)
	if e.Failure != nil {
		refusing = 1
	}
	journal, _ := n.meta.JournalBytes(context.Background())
	owed, jobs := n.upkeep.Backlog(), n.jobStates()
	r := n.drives.requests()
	return append([]telemetry.Sample{
		counter("object_puts_total", "Requests to buckets that write: objects, parts, beginning and end of uploads in parts.", uint64(r.Puts)),
		counter("object_gets_total", "Requests to buckets that read objects or parts of them.", uint64(r.Gets)),
		counter("object_heads_total", "Requests to buckets that ask what an object is.", uint64(r.Heads)),
		counter("object_lists_total", "Pages of listings of buckets.", uint64(r.Lists)),
		counter("object_deletes_total", "Requests to buckets that delete.", uint64(r.Deletes)),
		counter("object_retries_total", "Of all these, the ones that repeated one which failed.", uint64(r.Retries)),
		counter("object_sent_bytes_total", "Bytes of objects sent to buckets.", uint64(r.Sent)),
		counter("object_read_bytes_total", "Bytes of objects read from buckets.", uint64(r.Read)),
		counter("blob_added_bytes_total", "Plaintext bytes given to be stored.", b.BytesAdded),
		counter("blob_duplicate_bytes_total", "Of these, found as duplicates.", b.BytesDup),
		counter("blob_zero_bytes_total", "Of these, left out as holes.", b.BytesZero),
		counter("blob_sealed_bytes_total", "Compressed and sealed bytes of new frames.", b.BytesSealed),
		counter("blob_journal_bytes_total", "Of these, to the journal.", b.BytesJournal),
		counter("blob_segments_total", "Segments made durable.", b.Segments),
		counter("blob_segment_bytes_total", "Bytes written to drives as segments, replicas counted each.", b.SegmentBytes),
		counter("blob_read_bytes_total", "Sealed bytes read from drives and the journal.", b.BytesRead),
		counter("blob_served_bytes_total", "Plaintext bytes given to readers.", b.BytesServed),
		counter("blob_cache_hits_total", "Chunks found in memory.", b.CacheHits),
		counter("blob_cache_misses_total", "Chunks not found in memory.", b.CacheMisses),
		counter("blob_bad_replicas_total", "Stored replicas that failed to read or verify.", b.BadReplicas),
		counter("blob_repaired_replicas_total", "Of these, written anew from a good one.", b.Repaired),
		counter("upkeep_packed_frames_total", "Journal frames moved into segments.", u.FramesPacked),
		counter("upkeep_compacted_segments_total", "Segments whose live frames were moved.", u.Compacted),
		counter("upkeep_deleted_segments_total", "Segments deleted.", u.Deleted),
		counter("upkeep_freed_bytes_total", "Bytes that deleted segments gave back.", u.BytesFreed),
		counter("upkeep_scrubbed_bytes_total", "Bytes that scrubs verified.", u.BytesScrubbed),
		counter("upkeep_bad_replicas_total", "Replicas that scrubs found missing or damaged.", u.Bad),
		counter("upkeep_copied_parts_total", "Replicas and shards written because they were owed or had to move.", u.PartsCopied),
		counter("upkeep_copied_bytes_total", "Bytes of these.", u.BytesCopied),
		gauge("pending_segments", "Segments whose copies are not those they should have.", int64(owed.Segments)),
		gauge("pending_bytes", "Bytes of these segments.", owed.Bytes),
		gauge("pending_failing_segments", "Of these, the ones whose last attempt failed.", int64(owed.Failing)),
		counter("upkeep_repaired_replicas_total", "Replicas and shards that scrubs made good.", u.Repaired),
		counter("upkeep_orphans_total", "Replicas and shards deleted that no record knew.", u.Orphans),
		counter("upkeep_adopted_total", "Replicas and shards found on drives and put on record, since they were owed.", u.Adopted),
		gauge("upkeep_jobs_running", "Jobs that run now.", jobs[job.Running]),
		gauge("upkeep_jobs_queued", "Jobs that wait.", jobs[job.Queued]),
		gauge("upkeep_jobs_paused", "Jobs that are paused.", jobs[job.Paused]),
		gauge("upkeep_jobs_failed", "Failed jobs among those remembered.", jobs[job.Failed]),
		counter("upkeep_doubts_total", "Things kept because of a doubt.", u.Doubts),
		counter("upkeep_evicted_copies_total", "Copies taken from their tier while a colder one stays.", u.Evicted),
		counter("upkeep_evicted_bytes_total", "Bytes of their segments.", u.BytesEvicted),
		counter("upkeep_promoted_segments_total", "Segments written to a hotter tier again.", u.Promoted),
		counter("upkeep_promoted_bytes_total", "Bytes of these.", u.BytesPromoted),
		gauge("upkeep_pending_segments", "Segments with copies that are owed.", int64(backlog.Segments)),
		gauge("upkeep_pending_bytes", "Bytes of these.", backlog.Bytes),
		counter("disk_cache_hits_total", "Reads of pages of slow drives answered from the disk cache.", c.Hits),
		counter("disk_cache_hit_bytes_total", "Bytes of these.", c.HitBytes),
		counter("disk_cache_misses_total", "Pages fetched from slow drives.", c.Misses),
		counter("disk_cache_filled_bytes_total", "Bytes written to the disk cache.", c.Filled),
		counter("disk_cache_bad_pages_total", "Pages of the disk cache that did not verify and were fetched again.", c.Bad),
		counter("disk_cache_failures_total", "Writes to the disk cache that failed.", c.Failures),
		gauge("disk_cache_bytes", "Bytes in the disk cache.", c.PageBytes),
		gauge("blob_cache_bytes", "Decoded chunks in memory.", b.CacheBytes),
		counter("kv_commits_total", "Metadata transactions committed.", uint64(e.Commits)),
		counter("kv_conflicts_total", "Metadata transactions that had to run again.", uint64(e.Conflicts)),
		counter("kv_syncs_total", "Flushes of the metadata log.", uint64(e.Syncs)),
		counter("kv_log_failures_total", "Times the metadata log failed.", uint64(e.LogFailures)),
		gauge("kv_refusing", "1 while metadata changes are refused because the log cannot be written.", refusing),
		gauge("kv_disk_bytes", "Metadata on disk.", e.DiskBytes),
		gauge("kv_last_seq", "Newest batch.", int64(n.engine.LastSeq())),
		gauge("kv_durable_seq", "Newest durable batch.", int64(n.engine.DurableSeq())),
		gauge("checkpoint_seq", "Newest batch on every drive.", int64(n.backupSeq())),
		gauge("dirty_bytes", "Written bytes not yet stored.", n.budget.Used()),
		gauge("journal_bytes", "Stored bytes not yet packed into segments.", journal),
	}, n.drives.samples(context.Background())...)
}

// statsText is .strake/metrics: every figure of this process, a line each.
func (n *Node) statsText() []byte {
	var b strings.Builder
	for _, s := range n.samples() {
		fmt.Fprintf(&b, "%s%s %s\n", s.Name, labelText(s.Labels), strconv.FormatFloat(s.Value, 'f', -1, 64))
	}
	return []byte(b.String())
}

// labelText is labels as in Prometheus' text format.
func labelText(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, fmt.Sprintf("%s=%q", k, labels[k]))
	}
	if len(list) == 0 {
		return ""
	}
	return "{" + strings.Join(list, ",") + "}"
}

// virtual are the files of a volume's .strake directory that the daemon makes.
func (n *Node) virtual() []vfs.VirtualFile {
	return []vfs.VirtualFile{
		{Name: "metrics", Content: func(context.Context) ([]byte, error) { return n.statsText(), nil }},
		{Name: "accesslog", Mode: 0o400, Stream: func(context.Context) (io.ReadCloser, error) { return newLogReader(n.trace), nil }},
	}
}
