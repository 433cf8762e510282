// Package bench measures what the README claims, each figure beside its floor: the bare work that
// no implementation can avoid, measured in the same run on the same machine.
//
//	make bench
//	BENCH_SIZE=1GiB go test -run '^$' -bench Install ./bench
//	go run ./bench/fleet -devices 100000   # a rollout to a large fleet
//
// Every benchmark reports its result, its floor and how the two relate, under units that say so:
// "×floor" is how many times the floor something costs (1 is perfect), "of-floor" is the share of
// the floor's throughput that it reaches. The package has no code of its own; everything is in its
// tests.
package bench
