package mem_test

import (
	"testing"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/mem"
)

func TestConformance(t *testing.T) {
	drivetest.Run(t, func(*testing.T) drive.Drive { return mem.New(mem.Options{}) }, drivetest.Capabilities{
		Reopen: func(_ *testing.T, d drive.Drive) drive.Drive {
			d.(*mem.Drive).Reopen()
			return d
		},
	})
}
