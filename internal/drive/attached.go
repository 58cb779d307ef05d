package drive

import (
	"context"
	"time"
)

// Attached is a Drive that knows how it was detached the last time: one whose
// bytes a lost machine may have taken with it though they were made durable, as
// disks lie.
type Attached interface {
	// AtRisk is since when what was written to the drive before it was opened may
	// be damaged or missing: since its last clean detach, about. ok is false where
	// it was detached cleanly, or no mark says anything.
	AtRisk() (since time.Time, ok bool)
	// Settled says that somebody looks after what is at risk, also after a crash:
	// the next Close may say that all is well. Without it the drive stays marked.
	Settled()
}

// Claimed is a Drive that is one store's and can be taken over by another.
type Claimed interface {
	// Claimed asks the place whose it is: nil where it is still the store's that
	// opened it. fsapi.NoDevice: it is not; otherwise what kept it from being read.
	Claimed(ctx context.Context) error
}
