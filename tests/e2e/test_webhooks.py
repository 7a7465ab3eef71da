"""Webhook endpoints and their delivery log in the page."""

from playwright.sync_api import expect

from tests.e2e.conftest import OpenPage
from tests.support.webhook_receivers import Receiver, Reply


def test_an_endpoint_is_added_tested_and_sent_to_again(open_page: OpenPage, receiver: Receiver) -> None:
    """Its secret is shown once; the log has each attempt and the receiver's response."""
    receiver.script.append(Reply(500, body=b"not today"))
    page = open_page("/#/webhooks")
    page.get_by_label("URL").fill(receiver.url)
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("whsec_")).to_be_visible()
    page.get_by_role("button", name="Send a test to").click()
    receiver.wait_for(lambda requests: len(requests) >= 1)
    page.get_by_role("button", name="Refresh").click()
    delivery = page.locator("[data-delivery]").first
    expect(delivery).to_contain_text("webhook.test")
    page.get_by_role("button", name="Send again: webhook.test").first.click()
    receiver.wait_for(lambda requests: len(requests) >= 2)
    badge = delivery.locator(".badge")
    while badge.inner_text() == "Pending":  # the receiver has responded, and the service is about to record it
        page.get_by_role("button", name="Refresh").click()
        page.wait_for_timeout(100)
    expect(badge).to_have_text("Delivered")
    delivery.get_by_text("2 tries").click()
    expect(delivery).to_contain_text("not today")

    page.get_by_role("button", name="Disable").click()
    expect(page.locator("[data-endpoint]")).to_contain_text("Disabled")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("[data-endpoint]")).to_have_count(0)


def test_a_forbidden_endpoint_is_refused(open_page: OpenPage) -> None:
    """An address inside the network."""
    page = open_page("/#/webhooks")
    page.get_by_label("URL").fill("https://127.0.0.1/hook")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("alert")).to_be_visible()
