package upkeep

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/strakefs/strake/internal/blob/upkeep/job"
	"github.com/strakefs/strake/internal/fsapi"
)

// verifySlack is how far a drive's times of blobs may lag behind this machine's.
const verifySlack = time.Minute

func checkVerify(args []string) ([]string, error) {
	if len(args) != 2 {
		return nil, fsapi.Errorf(fsapi.Invalid, "give a drive and a time")
	}
	id, err := fsapi.ParseDriveID(args[0])
	if err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339, args[1])
	if err != nil {
		return nil, fsapi.Errorf(fsapi.Invalid, "time %q: want one such as 2006-01-02T15:04:05Z", args[1])
	}
	return []string{id.String(), at.UTC().Format(time.RFC3339)}, nil
}

// runVerify looks whether everything recorded on a drive is there, and reads what
// it was given since a time: what a lost machine may have taken with it. A bad part
// is repaired from others. Where the drive is away it fails, and verifyAgain starts
// another.
func (u *Upkeep) runVerify(ctx context.Context, t *job.Task) error {
	args, err := checkVerify(t.Args())
	if err != nil {
		return err
	}
	on, _ := fsapi.ParseDriveID(args[0])
	since, _ := time.Parse(time.RFC3339, args[1])
	return u.scanAll(ctx, t, scan{on: on, since: since.Add(-verifySlack)})
}

// verifyAgain starts jobs again that failed to verify a drive, a while ago, where
// it can be read now: the drive was told that they would look after it.
func (u *Upkeep) verifyAgain(ctx context.Context, now time.Time) error {
	jobs, err := u.runner.Jobs(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i, j := range jobs { // the newest first
		like := func(o job.Job) bool { return o.Kind == JobVerify && slices.Equal(o.Args, j.Args) }
		if j.Kind != JobVerify || j.State != job.Failed || slices.ContainsFunc(jobs[:i], like) {
			continue
		}
		age := now.Sub(j.Ended)
		id, err := fsapi.ParseDriveID(j.Args[0])
		if err != nil || age >= 0 && age < watchAgain || !u.o.Drives.State(id).Readable() {
			continue
		}
		_, err = u.runner.Start(ctx, JobVerify, j.Args, false)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
