"""Labels teach the same on every replica, and what the held-back ones speak against never serves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from router.difficulty.cues import Shape
from router.difficulty.lessons import EPOCH, Lesson, Lessons, error_of, first_of, quality_of
from router.difficulty.look import Look, look_at
from router.difficulty.scorer import Label
from router.difficulty.weights import shipped_weights

SEED = 5
HARD = ["an invoice", "a refund", "a chargeback", "a tax form"]
EASY = ["a parcel", "an address", "a password", "a newsletter"]


def requests(count: int, seed: int = SEED) -> Iterator[tuple[Look, float]]:
    """Yield what is seen of a request, and how much better the premium model's answer to it is."""
    dice = random.Random(seed)
    for _ in range(count):
        is_hard = dice.random() < 0.4
        about = dice.choice(HARD if is_hard else EASY)
        text = f"Customer {dice.randrange(9_999)} writes about {about}. What should our reply be?"
        premium = dice.random() < 0.95
        cheap = dice.random() < (0.25 if is_hard else 0.9)
        yield look_at(text, Shape()), float(premium) - float(cheap)


def lessons_of(
    count: int, *, source: str = "shadow", sign: float = 1.0, begin: int = 1, seed: int = SEED
) -> list[Lesson]:
    return [
        Lesson(begin + at, f"{source}.{begin + at}", source, Label(look, sign * gain), is_trusted=source == "shadow")
        for at, (look, gain) in enumerate(requests(count, seed))
    ]


def taught(*streams: list[Lesson], begin: int = 0) -> Lessons:
    lessons = Lessons(shipped_weights(), begin)
    for stream in streams:
        lessons.take(stream)
    return lessons


UNSEEN = [Label(look, gain) for look, gain in requests(600, seed=77)]


def recovered(lessons: Lessons) -> float:
    quality = quality_of(lessons.served, UNSEEN)
    assert quality is not None
    assert quality.recovered is not None
    return quality.recovered


def test_what_was_learned_gives_way_where_no_label_at_all_tells_newer_ones_better() -> None:
    learned = taught(lessons_of(1_000))
    assert learned.served.version > 0
    learned.take(lessons_of(500, sign=-1, begin=1_001, seed=SEED + 1))
    now = [learned.cold.prepared(label) for label in learned.judging()]
    assert error_of(learned.served, now) <= error_of(learned.cold, now)
    assert quality_of(learned.served, [replace(label, gain=-label.gain) for label in UNSEEN]) == quality_of(
        learned.cold, [replace(label, gain=-label.gain) for label in UNSEEN]
    )


def test_what_judges_is_wrong_about_what_is_served() -> None:
    for lessons in (taught(), taught(lessons_of(400))):
        for label in UNSEEN[:100]:
            said = label.gain - lessons.served.score(label.look).gain
            assert lessons.served.wrong_about(lessons.cold.prepared(label)) == said


def test_a_hundred_labels_beat_a_random_mix_clearly() -> None:
    shares = [recovered(taught(lessons_of(count))) for count in (0, 50, 100, 400)]
    print(f"recovered on unseen requests after 0, 50, 100 and 400 labels: {shares}; random 0.5")
    assert shares[2] >= 0.65
    assert shares[3] >= shares[1] >= shares[0] - 0.02


def test_flipped_ratings_are_not_taken_into_service() -> None:
    clean = lessons_of(100)
    flipped = lessons_of(1_500, source="feedback", sign=-1.0, begin=101, seed=6)
    alone = taught(clean)
    poisoned = taught(clean, flipped)
    print(f"recovered with 100 labels {recovered(alone)}, with 1,500 flipped ratings beside {recovered(poisoned)}")
    assert recovered(poisoned) >= recovered(alone) - 0.01


def test_flipped_ratings_that_come_first_change_nothing_until_labels_judge_them() -> None:
    flipped = lessons_of(300, source="feedback", sign=-1.0)
    assert taught(flipped).served.version == 0
    later = taught(flipped, lessons_of(100, begin=301, seed=9))
    assert recovered(later) >= 0.65


def test_true_ratings_help_where_labels_are_few() -> None:
    clean = lessons_of(40)
    ratings = lessons_of(600, source="feedback", begin=41, seed=8)
    assert recovered(taught(clean, ratings)) > recovered(taught(clean))


def test_who_reads_late_knows_exactly_what_who_read_all_knows() -> None:
    stream = lessons_of(2 * EPOCH + 150)
    live = taught(stream)
    for newest in (2 * EPOCH + 150,):
        begin = first_of(newest)
        assert begin > 0
        late = taught([lesson for lesson in stream if lesson.seq > begin], begin=begin)
        assert late.served.version == live.served.version
        looks = [label.look for label in UNSEEN[:50]]
        assert [late.served.score(look) for look in looks] == [live.served.score(look) for look in looks]


def test_labels_that_teach_nothing_move_the_window_alike_for_all() -> None:
    stream = lessons_of(EPOCH + 100)
    newest = 2 * EPOCH + 50
    live = taught(stream)
    live.reach(newest, newest)
    begin = first_of(newest)
    late = taught([lesson for lesson in stream if lesson.seq > begin], begin=begin)
    late.reach(newest, newest)
    assert (live.begin, live.served.version) == (late.begin, late.served.version)
    assert live.served.version > 0
    assert recovered(live) == recovered(late)


def test_what_prompts_share_is_told_as_long_as_the_labels_count() -> None:
    early, late = (Label(replace(look, left_out=(mark,)), 0.0) for mark, (look, _) in enumerate(requests(2)))
    lessons = taught([Lesson(1, "a", "shadow", early), Lesson(EPOCH + 1, "b", "shadow", late)])
    assert lessons.shared == {0, 1}
    lessons.reach(2 * EPOCH + 1, 2 * EPOCH + 1)
    assert lessons.shared == {1}
    lessons.take([Lesson(2 * EPOCH + 2, "reset", "reset", None)])
    assert lessons.shared == set()


def test_a_reset_forgets_everything_and_learning_goes_on() -> None:
    stream = lessons_of(200)
    reset = Lesson(201, "reset", "reset", None)
    lessons = taught(stream, [reset])
    assert (lessons.served.version, dict(lessons.sources), lessons.judging()) == (0, {}, [])
    assert recovered(taught(stream, [reset], lessons_of(200, begin=202))) >= 0.65


def test_a_rating_that_is_given_again_takes_the_first_ones_place() -> None:
    stream = lessons_of(60, source="feedback")
    wrong = [
        Lesson(lesson.seq, lesson.request_id, "feedback", Label(lesson.label.look, -1.0))
        for lesson in stream
        if lesson.label
    ]
    right = [Lesson(lesson.seq + 60, lesson.request_id, "feedback", lesson.label) for lesson in stream]
    assert len(taught(wrong, right).judging()) == len(taught(right).judging())


def test_labels_that_are_taken_twice_count_once() -> None:
    given = lessons_of(40)
    lessons, again = taught(given), taught(given, given)
    assert (again.sources, again.seq) == (lessons.sources, 40)
    assert again.served.version == lessons.served.version


def again(lessons: list[Lesson], begin: int) -> list[Lesson]:
    """Return ratings of the same requests that are given again, from the number `begin` on."""
    return [replace(lesson, seq=begin + at, place=lesson.place or lesson.seq) for at, lesson in enumerate(lessons)]


def test_a_rating_that_is_given_ten_times_is_one_label() -> None:
    own = lessons_of(100)
    ratings = lessons_of(100, source="feedback", begin=101)
    repeated = [each for at in range(9) for each in again(ratings, 201 + 100 * at)]
    lessons = taught(own, ratings, repeated)
    assert lessons.sources == {"shadow": 100, "feedback": 100}
    lessons.reach(2 * EPOCH + 500, 2 * EPOCH)
    assert lessons.begin == 0, "the window moves by labels"
    lessons.reach(2 * EPOCH + 501, 2 * EPOCH + 1)
    assert lessons.begin == EPOCH


def test_ratings_that_are_given_again_teach_alike_whoever_reads_when() -> None:
    dice = random.Random(SEED)
    stream: list[Lesson] = []
    first = lessons_of(2 * EPOCH + 600, source="feedback")
    for place, lesson in enumerate(first, start=1):
        stream.append(replace(lesson, seq=len(stream) + 1, place=place, is_trusted=place % 2 == 0))
        while dice.random() < 0.3:
            earlier = dice.choice(stream)
            assert earlier.label is not None
            changed = replace(earlier.label, gain=1.0 - earlier.label.gain)
            stream.append(replace(earlier, seq=len(stream) + 1, label=changed))
    live = taught(*([lesson] for lesson in stream))
    begin = first_of(len(first))
    late = taught([lesson for lesson in stream if lesson.seq > begin], begin=begin)
    assert begin > 0
    assert (live.served.version, live.sources, live.begin) == (late.served.version, late.sources, late.begin)
    assert [live.served.score(each.look) for each in UNSEEN[:20]] == [
        late.served.score(each.look) for each in UNSEEN[:20]
    ]
