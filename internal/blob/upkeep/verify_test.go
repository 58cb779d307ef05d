package upkeep_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/blob/upkeep"
	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/drive"
)

// A verification reads what a drive was given since a time, misses whatever is
// gone, and leaves other drives alone.
func TestVerifyJob(t *testing.T) {
	r := copiesRig(t, "hot:2", map[string]int{"hot": 2})
	one, two := r.drives[0], r.drives[1]
	id := two.Info().ID.String()
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	one.Now, two.Now = func() time.Time { return made }, func() time.Time { return made }
	for i := range 3 {
		r.write(fmt.Sprint(i), blob.Segment, random(uint64(i), 30_000))
	}
	names := two.Names()
	good := string(two.Bytes(names[1]))
	flip := func(b []byte) []byte { b[900] ^= 1; return b }
	two.Damage(names[1], flip)
	at := func(d time.Duration) string { return made.Add(d).Format(time.RFC3339) }
	if j := r.mustJob(upkeep.JobVerify, id, at(2*time.Minute)); j.Note != "" || j.Progress.Done != 3 {
		t.Errorf("what is older was read: %+v", j)
	}
	two.Remove(names[2])
	if j := r.mustJob(upkeep.JobVerify, id, at(3*time.Minute)); !strings.HasPrefix(j.Note, "1 parts were missing or damaged, 1 of them are repaired") {
		t.Errorf("what is gone is not missed: %+v", j)
	}
	one.Damage(names[0], flip) // the other drive's business
	if j := r.mustJob(upkeep.JobVerify, id, at(0)); !strings.HasPrefix(j.Note, "1 parts") || string(two.Bytes(names[1])) != good {
		t.Errorf("%+v", j)
	}
	for _, args := range [][]string{nil, {id}, {"zz", at(0)}, {id, "yesterday"}, {id, at(0), "x"}} {
		if _, err := r.up.StartJob(t.Context(), upkeep.JobVerify, args...); err == nil {
			t.Errorf("verify %v was taken", args)
		}
	}
	r.state(two, drive.Offline)
	if j := r.job(upkeep.JobVerify, id, at(0)); !strings.Contains(j.Err, "away") {
		t.Errorf("a drive that is away: %+v", j)
	}
}

// A verification that found its drive away is made when it is back: the drive was
// told that it would be.
func TestVerifyIsMadeWhenTheDriveIsBack(t *testing.T) {
	r := copiesRig(t, "hot:2", map[string]int{"hot": 2})
	two := r.drives[1]
	r.write("a", blob.Segment, random(1, 30_000))
	two.Damage(two.Names()[0], func(b []byte) []byte { b[900] ^= 1; return b })
	r.state(two, drive.Offline)
	if j := r.job(upkeep.JobVerify, two.Info().ID.String(), "2020-01-01T00:00:00Z"); j.State != job.Failed {
		t.Fatalf("%+v", j)
	}
	defer r.run()()
	r.state(two, drive.Online)
	r.clock.move(11 * time.Minute)
	if j := r.find(upkeep.JobVerify, job.Done); !strings.HasPrefix(j.Note, "1 parts") {
		t.Errorf("%+v", j)
	}
	r.check()
}
