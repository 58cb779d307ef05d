package fsapi

import "time"

// Heat is what is remembered of the accesses to one segment. A visit is a span
// of reads that lie close together; it counts as one access, however many reads
// it has.
type Heat struct {
	Segment SegmentID
	Last    time.Time // of the newest read, whole seconds
	Visit   time.Time // when the newest visit began, whole seconds
	Count   float64   // visits as of Visit, those long ago counted for less; ≥ 0
}
