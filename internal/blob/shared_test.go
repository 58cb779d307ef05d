package blob_test

import (
	"testing"

	"github.com/strakefs/strake/internal/blob"
	"github.com/strakefs/strake/internal/fsapi"
	"github.com/strakefs/strake/internal/policy"
)

// Data that was acknowledged with several copies, and is stored anew since
// another file shares it that asks for something else, has as many there before
// its record follows: what the other file writes at once may be less.
func TestSharedDataStaysAsSafe(t *testing.T) {
	safe := []policy.Copy{{Tier: "hot", Replicas: 3}}
	for name, other := range map[string][]policy.Copy{
		"the same tier": {{Tier: "hot", Replicas: 1}, {Tier: "cold", Replicas: 1}},
		"another tier":  {{Tier: "cold", Replicas: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fsapi.CipherAES256GCM, 5, nil)
			r.drives[4].With("cold", "far")
			data := bytesOf(1, 2<<20, "random")
			c := class(3, "none", policy.Chunking{Fixed: 65536})
			c.Copies = safe
			r.store(t, c, blob.Segment, data)
			c.Copies = other
			st := r.store(t, c, blob.Segment, data)
			if len(st.Moves) == 0 {
				t.Fatal("nothing moved")
			}
			for _, s := range st.Segments {
				hot := s.Copy(safe[0])
				if hot == nil || hot.Count() < safe[0].Need() {
					t.Errorf("segment %v is recorded with %+v", s.ID, s.Copies)
				}
				for i := range s.Copies {
					for n := range s.Copies[i].Drives {
						if err := r.VerifyPart(t.Context(), &s, &s.Copies[i], n); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
}
