package daemon

import (
	"errors"
	"testing"

	"github.com/strakefs/strake/internal/durability"
	"github.com/strakefs/strake/internal/fsapi"
)

func TestEvictableCopiesCountUntilTheOthersAreThere(t *testing.T) {
	hour := durability.Figure{Value: 1 / 8766.0, Source: durability.Measured}
	specs := []fsapi.CopySpec{{Tier: "hot", Replicas: 1, Evictable: true}, {Tier: "warm", Replicas: 1, Evictable: true}, {Tier: "cold", Replicas: 1}}
	got := untilOthers([]durability.Copy{{Name: "hot"}, {Name: "warm", Pending: hour}, {Name: "cold", Pending: hour}}, specs)
	if len(got) != 2 || got[0].Name != "hot" || got[0].Until != hour || got[1].Name != "cold" || got[1].Until.Value != 0 {
		t.Errorf("%+v", got)
	}
	got = untilOthers([]durability.Copy{{Name: "cold"}, {Name: "hot", Pending: hour}}, []fsapi.CopySpec{specs[2], specs[0]})
	if len(got) != 1 || got[0].Name != "cold" {
		t.Errorf("the first copy stays: %+v", got)
	}
}

func TestNothingIsStatedOfAnUnknownProvider(t *testing.T) {
	for where, known := range map[string]bool{
		"s3://b/p": true, "gs://b": true, "az://c?account=a": true,
		"s3://b?endpoint=http://nas:9000": false, "file:///b": false,
	} {
		f, err := statedLoss("far", where)
		if known && (err != nil || f.Source != durability.Stated) || !known && !errors.Is(err, fsapi.Invalid) {
			t.Errorf("%s: %v, %v", where, f, err)
		}
	}
}
