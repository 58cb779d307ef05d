package fault_test

import (
	"testing"

	"github.com/strakefs/strake/internal/drive"
	"github.com/strakefs/strake/internal/drive/drivetest"
	"github.com/strakefs/strake/internal/drive/fault"
	"github.com/strakefs/strake/internal/drive/mem"
)

func TestConformance(t *testing.T) {
	drivetest.Run(t, func(*testing.T) drive.Drive {
		return fault.New(mem.New(mem.Options{}), nil, nil)
	}, drivetest.Capabilities{})
}
