package torture_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pgkeep/pgkeep/state/postgres/pgtest"
)

// The receiver's memory is bounded, however much WAL it has to catch up with.
func TestReceiverMemory(t *testing.T) {
	t.Parallel()
	x := newSite(t, pgtest.Options{SegmentMB: 16, Settings: map[string]string{"max_wal_size": "4GB"}})
	for range 4 {
		x.write(500_000)
	}
	end := x.flushed()
	cmd := x.start()
	x.awaitArchived(end)
	peak := peakMemory(t, cmd.Process.Pid)
	x.end(cmd)
	x.compare()
	t.Logf("caught up with %d MiB of WAL in %d MiB of memory", (end-x.reserved)>>20, peak>>20)
	if peak > 192<<20 {
		t.Errorf("the receiver took %d MiB of memory, of 192", peak>>20)
	}
}

// peakMemory gives a process's highest resident size in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
