package plan_test

import (
	"testing"
	"time"

	"github.com/pgkeep/pgkeep/plan"
	"github.com/pgkeep/pgkeep/state"
)

func TestEstimateShowsItsArithmetic(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 2, n, 6, 0, 0, 0, time.UTC) }
	const mib, gib = 1 << 20, 1 << 30
	big := state.Measured{At: day(8), What: "drill", Restore: state.Work{Bytes: 24 * gib, Seconds: 240}, Replay: state.Work{Bytes: 4 * gib, Seconds: 80}, Start: state.Work{Seconds: 2}}
	tiny := state.Measured{At: day(9), What: "recovery", Restore: state.Work{Bytes: mib, Seconds: 10}, Replay: state.Work{Bytes: mib, Seconds: 10}}
	older := state.Measured{At: day(1), What: "drill", Restore: state.Work{Bytes: 20 * gib, Seconds: 2}}
	effort := plan.Effort{DataBytes: 48 * gib, ReplayWAL: gib}
	for _, c := range []struct {
		name     string
		measured []state.Measured
		effort   plan.Effort
		seconds  float64
		known    bool
		want     string
	}{
		{
			"the newest that is not tiny",
			[]state.Measured{tiny, big, older},
			effort, 480 + 2 + 20, true,
			"8 min 22 s = 8 min to restore 48.0 GiB at 102.4 MiB/s + 2.0 s to start the server + 20 s to replay 1.0 GiB at 51.2 MiB/s" +
				" (measured: restore: 24.0 GiB in 4 min by the drill of 2026-02-08 06:00:00 UTC; replay: 4.0 GiB in 1 min 20 s by the drill of 2026-02-08 06:00:00 UTC)",
		},
		{
			"nothing was measured", nil, effort, 0, false,
			"how long it takes to restore and to replay was never measured here: a recovery with --start, or a drill, measures it",
		},
		{
			"only the restore was",
			[]state.Measured{older},
			effort, 4.8, false,
			"at least 4.8 s = 4.8 s to restore 48.0 GiB at 10.0 GiB/s; how long it takes to replay was never measured here:" +
				" a recovery with --start, or a drill, measures it (measured: restore: 20.0 GiB in 2.0 s by the drill of 2026-02-01 06:00:00 UTC)",
		},
		{"no WAL to replay", []state.Measured{older}, plan.Effort{DataBytes: 20 * gib}, 2, true, "2.0 s = 2.0 s to restore 20.0 GiB at 10.0 GiB/s (measured: restore: 20.0 GiB in 2.0 s by the drill of 2026-02-01 06:00:00 UTC)"},
	} {
		e := plan.EstimateRecovery(c.measured, c.effort)
		if got := e.Sentence(); got != c.want || e.Known() != c.known || e.Seconds != c.seconds {
			t.Errorf("%s: %v %t\n%s\n%s", c.name, e.Seconds, e.Known(), got, c.want)
		}
	}
}
