// Package bench measures what the README claims, each figure beside its floor: the bare work that
// no implementation can avoid, measured in the same run on the same machine.
//
//	make bench
//	BENCH_SIZE=1GiB go test -run '^$' -bench Install ./bench
//	BENCH_PAST=1000000 go test -run '^$' -bench Past ./bench
//	BENCH_DEVICES=1000000 go test -run '^$' -bench FleetSize -timeout 1h ./bench
//	go run ./bench/fleet -devices 100000   # a rollout to a large fleet
//
// Every benchmark reports its result, its floor and how the two relate, under units that say so:
// "×floor" is how many times the floor something costs (1 is perfect), "of-floor" is the share of
// the floor's throughput that it reaches. The package has no code of its own; everything is in its
// tests.
//
// # Figures
//
// Of a virtual machine with two cores of an AMD Turin that other work kept busy, so that the relations count
// and the times do not:
//
//	Session  2.2 × the bare cryptography (1.6 is the aim): connect 94, QueryResponse 498, Success 251 µs of
//	         processor time, with 116, 447 and 137 allocations; the store is the largest part of what remains
//	Past     0.94 × the floor after 1,000,000 tokens used up and entries of history, against 1,000
package bench
