package upkeep_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/blobtest"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/meta"
	"github.com/strakefs/strake/internal/policy"
)

// run lets upkeep run until end is called.
func (r *rig) run() (end func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.up.Run(ctx) }()
	return func() { cancel(); <-done }
}

// job runs a job to its end.
func (r *rig) job(kind string, args ...string) job.Job {
	r.t.Helper()
	j, err := r.up.StartJob(r.t.Context(), kind, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	defer r.run()()
	if j, err = r.up.WaitJob(r.t.Context(), j.ID); err != nil {
		r.t.Fatal(err)
	}
	return j
}

func (r *rig) mustJob(kind string, args ...string) job.Job {
	r.t.Helper()
	j := r.job(kind, args...)
	if j.State != job.Done {
		r.t.Fatalf("job %s %v: %v: %s", kind, args, j.State, j.Err)
	}
	return j
}

// find waits for a job of a kind in a state.
func (r *rig) find(kind string, want job.State) job.Job {
	r.t.Helper()
	for {
		jobs, err := r.up.Jobs(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		for _, j := range jobs {
			if j.Kind == kind && j.State == want {
				return j
			}
		}
		runtime.Gosched()
	}
}

func (r *rig) state(d *blobtest.Drive, st drive.State) {
	r.t.Helper()
	if err := r.set.SetState(d.Info().ID, st); err != nil {
		r.t.Fatal(err)
	}
	r.up.DriveChanged(d.Info().ID, st)
}

// on is how many parts are recorded on a drive.
func (r *rig) on(d *blobtest.Drive) (n int) {
	r.t.Helper()
	r.segments(func(s fsapi.Segment) {
		for _, c := range s.Copies {
			for _, id := range c.Drives {
				if id == d.Info().ID {
					n++
				}
			}
		}
	})
	return n
}

func (r *rig) segments(fn func(s fsapi.Segment)) {
	r.t.Helper()
	if err := r.meta.Segments(r.t.Context(), fsapi.SegmentID{}, func(u meta.SegmentUse) bool { fn(u.Segment); return true }); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) want(copies string) {
	r.t.Helper()
	p, err := policy.Parse("copies=" + copies)
	if err != nil {
		r.t.Fatal(err)
	}
	r.vol.Policy.Copies = p.Copies
}

// A drive that goes away: at once what would not outlive another, the rest after
// a time; nothing when it is back.
func TestLostDriveIsRepairedByItself(t *testing.T) {
	r := copiesRig(t, "hot:2", map[string]int{"hot": 5})
	for i := range 8 {
		r.write(fmt.Sprint("two", i), blob.Segment, random(uint64(i), 50_000))
	}
	r.want("hot:3")
	for i := range 8 {
		r.write(fmt.Sprint("three", i), blob.Segment, random(uint64(100+i), 50_000))
	}
	r.fulfil()
	var lost *blobtest.Drive
	twos := func() (n int) {
		r.segments(func(s fsapi.Segment) {
			if s.Want[0].Replicas == 2 && slices.Contains(s.Copies[0].Drives, lost.Info().ID) {
				n++
			}
		})
		return n
	}
	if !slices.ContainsFunc(r.drives, func(d *blobtest.Drive) bool {
		lost = d
		return twos() > 0 && r.on(d) > twos()
	}) {
		t.Fatal("no drive holds enough for this test")
	}
	threes := r.on(lost) - twos()
	end := r.run()
	r.state(lost, drive.Offline)
	r.find(upkeep.JobRescue, job.Done)
	if twos() != 0 || r.on(lost) != threes {
		t.Errorf("at once: %d of two replicas, %d of three (had %d)", twos(), r.on(lost)-twos(), threes)
	}
	r.clock.move(50 * time.Minute)
	end()
	r.open() // the time that it is away goes on over a restart
	end = r.run()
	r.up.DriveChanged(lost.Info().ID, drive.Offline)
	r.clock.move(20 * time.Minute)
	r.find(upkeep.JobRepair, job.Done)
	if r.on(lost) != 0 {
		t.Errorf("%d parts are left on the lost drive", r.on(lost))
	}
	end()
	lost.Clear()
	r.whole()
	r.check()
}

// A repair goes by how little else there is.
func TestRepairOrder(t *testing.T) {
	r := copiesRig(t, "hot:3", map[string]int{"hot": 3})
	for i := range 20 {
		if i%2 == 0 {
			r.want("hot:3")
		} else {
			r.want("hot:2")
		}
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 30_000))
	}
	r.fulfil()
	spare := r.addDrive("hot")
	var mu sync.Mutex
	var order []string
	spare.Fail = func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == "Commit" {
			order = append(order, name)
		}
		return nil
	}
	lost := r.drives[1]
	few := map[string]bool{}
	r.segments(func(s fsapi.Segment) { few[blob.SegmentName(s.ID)] = len(s.Copies[0].Drives) == 2 })
	if err := r.set.SetState(lost.Info().ID, drive.Retired); err != nil {
		t.Fatal(err)
	}
	r.mustJob(upkeep.JobRepair, lost.Info().ID.String())
	last := -1
	for i, name := range order {
		if few[name] {
			last = i
		}
	}
	for i, name := range order {
		if i < last && !few[name] {
			t.Fatalf("a segment with two more was repaired before one with one more: %d of %d", i, len(order))
		}
	}
	if r.on(lost) != 0 || len(order) == 0 {
		t.Errorf("%d parts left, order of %d", r.on(lost), len(order))
	}
}

func TestRepairEndsWhenTheDriveIsBack(t *testing.T) {
	r := copiesRig(t, "hot:2", map[string]int{"hot": 3})
	r.write("a", blob.Segment, random(1, 50_000))
	id := r.segment().Copies[0].Drives[0]
	before := r.segment()
	if j := r.mustJob(upkeep.JobRepair, id.String()); !strings.Contains(j.Note, "back") {
		t.Errorf("%+v", j)
	}
	if s := r.segment(); !slices.Equal(s.Copies[0].Drives, before.Copies[0].Drives) {
		t.Errorf("moved off a good drive: %v", s.Copies)
	}
	j, err := r.up.StartJob(t.Context(), upkeep.JobRepair, id.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.up.PauseJob(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	r.up.DriveChanged(id, drive.Online)
	defer r.run()()
	r.find(upkeep.JobRepair, job.Cancelled)
}

// What cannot be made anew is said, and nothing of it is touched.
func TestRepairSaysWhatIsLost(t *testing.T) {
	r := copiesRig(t, "hot:1", map[string]int{"hot": 2})
	r.write("a", blob.Segment, random(1, 50_000))
	s := r.segment()
	id := s.Copies[0].Drives[0]
	if err := r.set.SetState(id, drive.Offline); err != nil {
		t.Fatal(err)
	}
	var only []fsapi.SegmentID
	if err := r.up.LostWithout(t.Context(), id, func(u meta.SegmentUse) bool { only = append(only, u.ID); return true }); err != nil || !slices.Equal(only, []fsapi.SegmentID{s.ID}) {
		t.Errorf("only there: %v, %v", only, err)
	}
	if j := r.job(upkeep.JobRepair, id.String()); j.State != job.Failed || !strings.Contains(j.Err, "bring it back") {
		t.Errorf("%+v", j)
	}
	if now := r.segment(); !slices.Equal(now.Copies[0].Drives, s.Copies[0].Drives) {
		t.Errorf("%v", now.Copies)
	}
}

// A draining drive is emptied, over a restart, and nothing is done twice.
func TestEvacuateGoesOn(t *testing.T) {
	r := copiesRig(t, "hot:2,warm:2+1", map[string]int{"hot": 3, "warm": 4})
	const files = 150
	for i := range files {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 20_000))
	}
	r.fulfil()
	from := r.drives[0]
	if j := r.job(upkeep.JobEvacuate, from.Info().ID.String()); j.State != job.Failed || !strings.Contains(j.Err, "strake drive evacuate") {
		t.Fatalf("an online drive: %+v", j)
	}
	held := r.on(from)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var mu sync.Mutex
	for _, d := range r.drives {
		was := d.Fail
		d.Fail = func(op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if op == "Commit" {
				if n++; n == 80 {
					cancel()
				}
			}
			if was != nil {
				return was(op, name)
			}
			return nil
		}
	}
	r.state(from, drive.Draining)
	r.up.Run(ctx) // until the process "dies"
	left := r.on(from)
	if left == 0 || left == held {
		t.Fatalf("%d of %d parts left at the restart", left, held)
	}
	r.open()
	r.up.DriveChanged(from.Info().ID, drive.Draining)
	end := r.run()
	j := r.find(upkeep.JobEvacuate, job.Done)
	end()
	r.clock.move(48 * time.Hour) // what the first run recorded and could not delete any more is a stray
	if _, err := r.up.SweepOrphans(t.Context(), upkeep.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	if r.on(from) != 0 || len(from.Names()) != 0 {
		t.Errorf("%d parts left, %d blobs", r.on(from), len(from.Names()))
	}
	if j.Progress.Done > int64(held) || j.Progress.Total != int64(held) {
		t.Errorf("progress %+v of %d", j.Progress, held)
	}
	r.whole()
	r.check()
}

// What is repaired keeps its distance: the new part goes to the failure domain
// that has none.
func TestRepairKeepsDomainsApart(t *testing.T) {
	r := copiesRig(t, "hot:3", nil)
	for i := range 6 {
		id := fsapi.DriveID(i + 1)
		d := blobtest.NewDrive(id).With("hot", fmt.Sprint("rack", i/2))
		d.Now = r.clock.Now
		r.drives = append(r.drives, d)
		_ = r.set.Add(d)
	}
	for i := range 30 {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 10_000))
	}
	r.fulfil()
	lost := r.drives[0]
	if err := r.set.SetState(lost.Info().ID, drive.Retired); err != nil {
		t.Fatal(err)
	}
	r.mustJob(upkeep.JobRepair, lost.Info().ID.String())
	r.segments(func(s fsapi.Segment) {
		seen := map[string]bool{}
		for _, id := range s.Copies[0].Drives {
			seen[r.drives[id-1].Info().Domain] = true
		}
		if len(seen) != 3 {
			t.Errorf("segment %v lies on %v", s.ID, s.Copies[0].Drives)
		}
	})
}

// Full drives give to empty ones, and no two replicas come together.
func TestRebalance(t *testing.T) {
	r := copiesRig(t, "hot:2", nil)
	add := func(rack string) *blobtest.Drive {
		d := blobtest.NewDrive(fsapi.DriveID(len(r.drives)+1)).With("hot", rack)
		d.Now = r.clock.Now
		r.drives = append(r.drives, d)
		_ = r.set.Add(d)
		return d
	}
	a, b := add("r1"), add("r2")
	for i := range 40 {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 60_000))
	}
	r.fulfil()
	c := add("r2")
	const total = 1 << 41
	one := r.segmentSize()
	a.SetAvail(total / 2)
	b.SetAvail(total/2 - total/4)
	c.SetAvail(total/2 + total/4)
	j := r.mustJob(upkeep.JobRebalance, "hot")
	if r.on(a) != 40 || r.on(b) != 0 || r.on(c) != 40 {
		t.Errorf("%d, %d, %d parts: %+v", r.on(a), r.on(b), r.on(c), j)
	}
	b.SetAvail(total - 20*one)
	c.SetAvail(total - 40*one)
	a.SetAvail(total - 30*one)
	j = r.mustJob(upkeep.JobRebalance, "hot")
	if r.on(b) != 0 || j.Progress.Done != 0 {
		t.Errorf("what is within the threshold was moved: %d, %+v", r.on(b), j)
	}
	r.whole()
	r.check()
}

func (r *rig) segmentSize() (size int64) {
	r.segments(func(s fsapi.Segment) { size = s.Size })
	return size
}

// A scrub is a job that finds what is bad on one drive or all.
func TestScrubJob(t *testing.T) {
	r := copiesRig(t, "hot:2", map[string]int{"hot": 2})
	for i := range 5 {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 30_000))
	}
	name := r.drives[1].Names()[2]
	good := r.drives[1].Bytes(name)
	r.drives[1].Damage(name, func(b []byte) []byte { b[900] ^= 1; return b })
	if j := r.mustJob(upkeep.JobScrub, "deep", r.drives[0].Info().ID.String()); j.Note != "" || j.Progress.Done != 5 {
		t.Errorf("another drive: %+v", j)
	}
	if j := r.mustJob(upkeep.JobScrub, "deep"); !strings.HasPrefix(j.Note, "1 parts") || j.Progress.DoneBytes != j.Progress.TotalBytes {
		t.Errorf("%+v", j)
	}
	if string(r.drives[1].Bytes(name)) != string(good) {
		t.Error("it was not repaired")
	}
	for _, args := range [][]string{nil, {"half"}, {"deep", "zz"}, {"deep", "0000000000000001", "x"}} {
		if _, err := r.up.StartJob(t.Context(), upkeep.JobScrub, args...); err == nil {
			t.Errorf("scrub %v was taken", args)
		}
	}
}

// What is due is started once for each interval, however often the process is.
func TestScheduleOutlivesRestarts(t *testing.T) {
	r := newRig(t, 1)
	r.write("a", blob.Segment, random(1, 30_000))
	end := r.run()
	for r.scheduled() == "" {
		runtime.Gosched()
	}
	end()
	r.clock.move(25 * time.Hour)
	r.open()
	end = r.run()
	r.find(upkeep.JobScrub, job.Done)
	r.find(upkeep.JobOrphans, job.Done)
	end()
	n, before := r.count(upkeep.JobScrub), r.scheduled()
	r.clock.move(2 * time.Hour)
	r.open()
	end = r.run()
	r.up.DriveChanged(99, drive.Offline) // two looks at what is due
	for !strings.Contains(r.scheduled(), fsapi.DriveID(99).String()) {
		runtime.Gosched()
	}
	r.up.DriveChanged(99, drive.Online)
	for strings.Contains(r.scheduled(), fsapi.DriveID(99).String()) {
		runtime.Gosched()
	}
	end()
	if r.count(upkeep.JobScrub) != n || r.scheduled() != before {
		t.Errorf("%d scrubs, were %d; %s, was %s", r.count(upkeep.JobScrub), n, r.scheduled(), before)
	}
}

func (r *rig) scheduled() string {
	b, _ := r.meta.Setting(r.t.Context(), "jobs/schedule")
	return string(b)
}

func (r *rig) count(kind string) (n int) {
	jobs, err := r.up.Jobs(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, j := range jobs {
		if j.Kind == kind {
			n++
		}
	}
	return n
}

func TestCompactJob(t *testing.T) {
	r := newRig(t, 1)
	for i := range 30 {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 10_000))
	}
	if _, err := r.up.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if j := r.mustJob(upkeep.JobCompact); j.Progress.Done != 30 {
		t.Errorf("%+v", j)
	}
	r.check()
	r.checkMeta()
	if j := r.mustJob(upkeep.JobGC); j.Note == "" {
		t.Errorf("%+v", j)
	}
}

func TestRateIsChangedLive(t *testing.T) {
	r := newRig(t, 1)
	if err := r.up.SetRate(0); err == nil {
		t.Error("a rate of 0 was taken")
	}
	if err := r.up.SetRate(1 << 20); err != nil || r.up.Rate() != 1<<20 {
		t.Errorf("%d, %v", r.up.Rate(), err)
	}
}

// What could not be made safe for want of room is, when there is some.
func TestRescueIsTriedAgain(t *testing.T) {
	r := copiesRig(t, "hot:2", map[string]int{"hot": 2})
	r.write("a", blob.Segment, random(1, 50_000))
	end := r.run()
	r.state(r.drives[0], drive.Offline)
	r.find(upkeep.JobRescue, job.Failed)
	fresh := r.addDrive("hot")
	r.up.DriveChanged(fresh.Info().ID, drive.Online)
	r.find(upkeep.JobRescue, job.Done)
	end()
	if r.on(r.drives[0]) != 0 || r.on(fresh) != 1 {
		t.Errorf("%+v", r.segment().Copies)
	}
	r.check()
}

// TestCompactJobEnds: a job does not compact what it has made itself, which is in
// segments as small as before where data compresses well enough.
func TestCompactJobEnds(t *testing.T) {
	r := newRig(t, 1)
	r.vol.Policy.Chunking = policy.Chunking{Fixed: 512 << 10} // as much as there is memory for
	r.vol.Policy.Compression = "auto"
	for i := range 40 {
		r.write(fmt.Sprint("f", i), blob.Segment, bytes.Repeat([]byte(fmt.Sprintf("text %2d ", i)), 64<<10))
	}
	if _, err := r.up.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.meta.relocated = func() { r.clock.move(time.Millisecond) } // what is made is newer
	if j := r.mustJob(upkeep.JobCompact); j.Progress.Done != 40 {
		t.Errorf("%+v", j)
	}
	r.check()
}
