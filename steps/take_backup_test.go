package steps

import "testing"

func TestTakeBackupNote(t *testing.T) {
	for want, s := range map[string]takeBackup{
		"":                           {},
		"backup B can be restored":   {taken: "B"},
		"backup B: it waits for WAL": {taken: "B", waits: "it waits for WAL"},
		"backup B can be restored; it is a full one: there is no parent":                          {taken: "B", whyFull: "there is no parent"},
		"backup B can be restored; the whole cluster was read and compared: summarize_wal is off": {taken: "B", compared: "summarize_wal is off"},
	} {
		if got := s.Note(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
