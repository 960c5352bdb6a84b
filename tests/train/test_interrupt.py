import os
import signal
import threading

import pytest

from volseg.train.interrupt import PausedError, StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_only_asks_and_its_usual_effect_comes_back_afterwards(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
    assert signal.getsignal(number) is before


@pytest.fixture
def usual_interrupt():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background of a shell, which ignores it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_interrupt_is_obeyed_at_once(usual_interrupt):
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_does_not_break_the_saving():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked


def test_in_another_thread_signals_are_left_alone():
    before, asked = signal.getsignal(signal.SIGTERM), []

    def work():
        with StopRequest() as stop:
            asked.append((stop.asked, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [(False, before)]


def test_the_message_says_how_to_go_on():
    assert str(PausedError(120)) == "saved at step 120; go on with --resume"
