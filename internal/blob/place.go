package blob

import (
	"context"
	"errors"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/erasure"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// chosen is a copy with the drives it is to be written to.
type chosen struct {
	spec   policy.Copy
	drives []drive.Drive
}

// place picks the drives of the first wanted copy that can be placed: the
// others follow later. Where none can, the error says what each lacks.
func (s *Store) place(ctx context.Context, want []policy.Copy, size int64, bad []fsapi.DriveID) (chosen, error) {
	var errs []error
	for _, c := range want {
		ds, err := s.o.Drives.Place(ctx, Wish{Tier: c.Tier, N: c.Width(), Min: c.Need(), Size: driveBytes(c, size), Avoid: bad})
		if err == nil {
			return chosen{c, ds}, nil
		}
		errs = append(errs, err)
		if s.o.NoRoom != nil && errors.Is(err, fsapi.NoSpace) {
			s.o.NoRoom(c.Tier)
		}
	}
	return chosen{}, fsapi.Wrap(fsapi.KindOf(errs[0]), errors.Join(errs...), "place a segment")
}

// driveBytes is about what a segment of size bytes takes on each drive of a
// copy.
func driveBytes(c policy.Copy, size int64) int64 {
	if c.K == 0 {
		return size
	}
	return erasure.For(c.K, c.M, max(size, 1)).BlobSize(0)
}
