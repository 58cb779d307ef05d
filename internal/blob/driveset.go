package blob

import (
	"context"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/fsapi"
)

// DriveSet is Drives over drives in this process. Safe for concurrent use.
type DriveSet struct{}

var _ Drives = (*DriveSet)(nil)

// NewDriveSet makes a set. It does not close the drives.
func NewDriveSet(drives ...drive.Drive) *DriveSet { panic("todo") }

// Add puts a drive in; fsapi.Exist where its id is there.
func (s *DriveSet) Add(d drive.Drive) error { panic("todo") }

// Remove takes a drive out and returns it; fsapi.NotExist.
func (s *DriveSet) Remove(id fsapi.DriveID) (drive.Drive, error) { panic("todo") }

// All are the drives, ordered by id.
func (s *DriveSet) All() []drive.Drive { panic("todo") }

// Drive is one drive, or fsapi.NotExist.
func (s *DriveSet) Drive(id fsapi.DriveID) (drive.Drive, error) { panic("todo") }

// Place picks drives for a new segment.
func (s *DriveSet) Place(ctx context.Context, tier string, n int, size int64) ([]drive.Drive, error) {
	panic("todo")
}
