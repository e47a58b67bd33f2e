package steps

import "context"

type realJournal struct{ real }

func (r realJournal) Write(ctx context.Context, e JournalEntry) error { return nil }
