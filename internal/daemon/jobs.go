package daemon

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strakefs/strake/internal/api"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/vfs"
)

// jobUsage is how a job's arguments are written on the command line, where that
// differs from upkeep's: people know names and paths.
var jobUsage = map[string]string{upkeep.JobRelayout: "VOLUME [PATH]"}

func (n *Node) listJobs(ctx context.Context, _ api.Empty) (api.Jobs, error) {
	out := api.Jobs{Jobs: []api.Job{}, Kinds: []api.JobKind{}, Rate: n.upkeep.Rate()}
	for _, k := range n.upkeep.JobKinds() {
		usage, ok := jobUsage[k.Name]
		if !ok {
			usage = k.Usage
		}
		out.Kinds = append(out.Kinds, api.JobKind{Kind: k.Name, Usage: usage, Help: k.Help})
	}
	jobs, err := n.upkeep.Jobs(ctx)
	for _, j := range jobs {
		out.Jobs = append(out.Jobs, n.describeJob(ctx, j))
	}
	return out, err
}

func (n *Node) showJob(ctx context.Context, req api.JobID) (api.Job, error) {
	return n.answerJob(ctx)(n.upkeep.Job(ctx, req.ID))
}

func (n *Node) pauseJob(ctx context.Context, req api.JobID) (api.Job, error) {
	return n.answerJob(ctx)(n.upkeep.PauseJob(ctx, req.ID))
}

func (n *Node) resumeJob(ctx context.Context, req api.JobID) (api.Job, error) {
	return n.answerJob(ctx)(n.upkeep.ResumeJob(ctx, req.ID))
}

func (n *Node) cancelJob(ctx context.Context, req api.JobID) (api.Job, error) {
	return n.answerJob(ctx)(n.upkeep.CancelJob(ctx, req.ID))
}

func (n *Node) answerJob(ctx context.Context) func(job.Job, error) (api.Job, error) {
	return func(j job.Job, err error) (api.Job, error) {
		if err != nil {
			return api.Job{}, err
		}
		return n.describeJob(ctx, j), nil
	}
}

func (n *Node) startJob(ctx context.Context, req api.JobStart) (api.Job, error) {
	args, err := n.jobArgs(ctx, req.Kind, req.Args)
	if err != nil {
		return api.Job{}, err
	}
	return n.answerJob(ctx)(n.upkeep.StartJob(ctx, req.Kind, args...))
}

// jobArgs turns names of drives and paths into what upkeep knows.
func (n *Node) jobArgs(ctx context.Context, kind string, args []string) ([]string, error) {
	args = append([]string(nil), args...)
	switch {
	case kind == upkeep.JobRelayout && (len(args) == 1 || len(args) == 2):
		path := "/"
		if len(args) == 2 {
			path = args[1]
		}
		p, err := n.find(ctx, api.PathReq{Volume: args[0], Path: path})
		if err != nil {
			return nil, err
		}
		return []string{strconv.FormatUint(uint64(p.v.id), 10), strconv.FormatUint(uint64(p.attr.Ino), 10)}, nil
	case kind == upkeep.JobReencrypt && len(args) == 1:
		rec, err := n.volumeRecord(ctx, args[0])
		return []string{strconv.FormatUint(uint64(rec.ID), 10)}, err
	case kind == upkeep.JobReencrypt:
		return nil, fsapi.Errorf(fsapi.Invalid, "give a volume")
	case kind == upkeep.JobRelayout:
		return nil, fsapi.Errorf(fsapi.Invalid, "give a volume, and a path or none")
	}
	if i := driveArg(kind); i >= 0 && i < len(args) {
		id := n.drives.byName(args[i])
		if id == 0 {
			return nil, fsapi.Errorf(fsapi.NotExist, "there is no drive named %q", args[i])
		}
		args[i] = id.String()
	}
	return args, nil
}

// driveArg is which argument of a kind of job is a drive; -1: none.
func driveArg(kind string) int {
	switch kind {
	case upkeep.JobRepair, upkeep.JobEvacuate, upkeep.JobVerify:
		return 0
	case upkeep.JobScrub:
		return 1
	}
	return -1
}

// describeJob is a job as people see it.
func (n *Node) describeJob(ctx context.Context, j job.Job) api.Job {
	out := api.Job{
		ID: j.ID, Kind: j.Kind, Args: n.jobText(ctx, j), State: j.State.String(), Done: j.Progress.Done, Total: j.Progress.Total,
		DoneBytes: j.Progress.DoneBytes, TotalBytes: j.Progress.TotalBytes, Rate: j.Rate, Created: j.Created, Updated: j.Updated,
		Error: j.Err, Note: j.Note, Started: given(j.Started), Ended: given(j.Ended),
	}
	return out
}

// given is a time, nil where it is zero.
func given(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// jobText is a job's arguments with names and paths, as far as they are known.
func (n *Node) jobText(ctx context.Context, j job.Job) []string {
	args := append([]string{}, j.Args...)
	if i := driveArg(j.Kind); i >= 0 && i < len(args) {
		if id, err := fsapi.ParseDriveID(args[i]); err == nil {
			args[i] = n.drives.label(id)
		}
	}
	if j.Kind != upkeep.JobRelayout && j.Kind != upkeep.JobReencrypt || len(args) != 2 {
		return args
	}
	vol, _ := strconv.ParseUint(args[0], 10, 32)
	v := n.volumes.byID(fsapi.VolumeID(vol))
	if v == nil {
		return args
	}
	args[0] = v.name()
	if j.Kind == upkeep.JobRelayout {
		ino, _ := strconv.ParseUint(args[1], 10, 64)
		args[1] = n.pathOf(ctx, v, fsapi.Ino(ino))
	}
	return args
}

// pathOf is where an inode is, or its number.
func (n *Node) pathOf(ctx context.Context, v *volume, ino fsapi.Ino) string {
	if ino == fsapi.RootIno {
		return "/"
	}
	if path, err := vfs.PathOf(ctx, v.local, ino); err == nil {
		return path
	}
	return fmt.Sprintf("inode %d", ino)
}

func (n *Node) jobRate(_ context.Context, req api.JobRate) (api.JobRate, error) {
	err := n.upkeep.SetRate(req.Rate)
	return api.JobRate{Rate: n.upkeep.Rate()}, err
}

// copiesChanged lays data out anew after a policy asks for other copies. Where it
// cannot be started, that is said and the policy holds for new data.
func (n *Node) copiesChanged(vol fsapi.VolumeID, ino fsapi.Ino) {
	if n.ctx == nil { // a tool: nothing runs here
		return
	}
	if _, err := n.upkeep.Relayout(n.ctx, vol, ino); err != nil && n.ctx.Err() == nil {
		n.log.Error("data cannot be laid out as its new policy asks: use 'strake job start relayout'", "volume", vol, "inode", ino, "err", err)
	}
}

// relayoutsOf are the relayouts that have not done what they are for, of a path, of
// what it is in and of what is in it; the newest first.
func (n *Node) relayoutsOf(ctx context.Context, at place) ([]api.Job, error) {
	jobs, err := n.upkeep.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	vol := strconv.FormatUint(uint64(at.v.id), 10)
	var of []api.Job
	for _, j := range jobs {
		if j.Kind == upkeep.JobRelayout && j.Args[0] == vol {
			of = append(of, n.describeJob(ctx, j))
		}
	}
	return unfinished(of, at.path), nil
}

// unfinished are the relayouts of a volume, given the newest first, that something at
// a path waits for: those that have not ended, and those that ended before they were
// done and that no newer one does the work of.
func unfinished(relayouts []api.Job, path string) []api.Job {
	left := []api.Job{}
	var newer []string
	for _, j := range relayouts {
		at := j.Args[1]
		again := slices.ContainsFunc(newer, func(n string) bool { return isIn(at, n) })
		newer = append(newer, at)
		ended := j.State == job.Done.String() || j.Ended != nil && again
		if !ended && (isIn(path, at) || isIn(at, path)) {
			left = append(left, j)
		}
	}
	return left
}

// isIn reports whether a path is a directory's or below it.
func isIn(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// jobStates counts jobs by state.
func (n *Node) jobStates() map[job.State]int64 {
	states := map[job.State]int64{}
	jobs, err := n.upkeep.Jobs(context.Background())
	if err != nil {
		n.log.Warn("jobs cannot be counted", "err", err)
	}
	for _, j := range jobs {
		states[j.State]++
	}
	return states
}

// jobProblems are the jobs whose last run of their kind and arguments failed.
func (n *Node) jobProblems() (out []string) {
	jobs, err := n.upkeep.Jobs(context.Background())
	if err != nil {
		return []string{fmt.Sprintf("jobs cannot be read: %v", err)}
	}
	seen := map[string]bool{}
	for _, j := range jobs { // the newest first
		what := fmt.Sprint(j.Kind, j.Args)
		if j.State == job.Failed && !seen[what] {
			out = append(out, fmt.Sprintf("job %d (%s %v) failed: %s", j.ID, j.Kind, n.jobText(context.Background(), j), j.Err))
		}
		seen[what] = true
	}
	return out
}

// Bounds of what onlyOnDrive names.
const (
	onlySegments = 100
	onlyFiles    = 8
)

// onlyOnDrive is what would be lost with a drive: for those who want to remove
// it.
func (n *Node) onlyOnDrive(ctx context.Context, req api.Named) (api.OnlyHere, error) {
	id := n.drives.byName(req.Name)
	if id == 0 {
		return api.OnlyHere{}, fsapi.Errorf(fsapi.NotExist, "there is no drive named %q", req.Name)
	}
	return n.onlyOn(ctx, id)
}

// onlyOn lists the segments with live data that cannot be read without a drive.
func (n *Node) onlyOn(ctx context.Context, id fsapi.DriveID) (api.OnlyHere, error) {
	out := api.OnlyHere{Listed: []api.OnlySegment{}}
	var first []meta.SegmentUse
	err := n.upkeep.LostWithout(ctx, id, func(s meta.SegmentUse) bool {
		out.Segments++
		out.Bytes += s.Live
		if len(first) < onlySegments {
			first = append(first, s)
		}
		return ctx.Err() == nil
	})
	for i := range first {
		out.Listed = append(out.Listed, n.describeOnly(ctx, &first[i].Segment))
	}
	return out, err
}

// describeOnly names files whose data lies in a segment, by its directory.
func (n *Node) describeOnly(ctx context.Context, s *fsapi.Segment) api.OnlySegment {
	out := api.OnlySegment{Segment: s.ID.String(), Files: []string{}}
	v := n.volumes.byID(s.Volume)
	if v == nil {
		return out
	}
	out.Volume = v.name()
	r, err := n.blob.Open(ctx, s)
	if err != nil { // the drive is away: what it held cannot be asked
		return out
	}
	seen := map[fsapi.Ino]bool{0: true}
	for _, e := range r.Directory() {
		if !seen[e.Ino] && len(out.Files) < onlyFiles {
			out.Files = append(out.Files, n.pathOf(ctx, v, e.Ino))
		}
		seen[e.Ino] = true
	}
	return out
}
